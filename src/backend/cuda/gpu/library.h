// What NVIDIA's own library reaches on this GPU, as a limit to stand beside: it is loaded for the measurement
// alone, where it is there.
#pragma once

#include "backend/cuda/device.h"

namespace millrace::cuda::gpu {

// Of a product of 8192 x 8192 x 8192 in bfloat16 by cuBLAS; 0 where it cannot be had.
double library_flops_per_second(Device& device);

}  // namespace millrace::cuda::gpu
