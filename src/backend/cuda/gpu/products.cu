// Ops with weights, on a GPU.
#include "backend/cuda/gpu/threads.h"
// In any order after the names that they use.
#include "backend/cuda/text/linear.inl"
#include "backend/cuda/text/product_kernels.inl"
#include "backend/cuda/text/route.inl"
