// Ops with weights, on the emulation.
#include "backend/cuda/emulation/threads.h"
// In any order after the names that they use.
#include "backend/cuda/text/linear.inl"
#include "backend/cuda/text/product_floats.inl"
#include "backend/cuda/text/product_tiles.inl"
#include "backend/cuda/text/route.inl"
