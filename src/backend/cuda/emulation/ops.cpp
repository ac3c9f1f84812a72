// Ops without weights, on the emulation.
#include "backend/cuda/emulation/threads.h"
// In any order after the names that they use.
#include "backend/cuda/text/attention.inl"
#include "backend/cuda/text/compress.inl"
#include "backend/cuda/text/limits.inl"
#include "backend/cuda/text/logits.inl"
#include "backend/cuda/text/recurrent.inl"
#include "backend/cuda/text/rope.inl"
#include "backend/cuda/text/rows.inl"
#include "backend/cuda/text/select.inl"
