// What GPU and emulation share: the backend around a device and its kernels.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/device.h"

namespace millrace::cuda {

using Run = void (*)(Machine&, const Op&);

std::unique_ptr<Backend> make_backend(std::unique_ptr<Device> device, Run kernels);

}  // namespace millrace::cuda
