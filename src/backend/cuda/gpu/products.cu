// Ops with weights, on a GPU.
#include "backend/cuda/gpu/threads.h"
// In any order after the names that they use.
#include "backend/cuda/text/linear.inl"
#include "backend/cuda/text/product_floats.inl"
#include "backend/cuda/text/product_tiles.inl"
#include "backend/cuda/text/route.inl"
