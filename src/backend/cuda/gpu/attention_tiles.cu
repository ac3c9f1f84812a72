// Attention on tensor cores, on a GPU.
#include "backend/cuda/gpu/threads.h"
// After the names that it uses.
#include "backend/cuda/text/attention_tiles.inl"
