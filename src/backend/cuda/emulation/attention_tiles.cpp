// Attention on tensor cores, on the emulation.
#include "backend/cuda/emulation/threads.h"
// After the names that it uses.
#include "backend/cuda/text/attention_tiles.inl"
