// What GPU and emulation share: the backend around a device and its kernels.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/device.h"

namespace millrace::cuda {

struct Kernels {
  void (*run)(Machine&, const Op&);
  DeviceLimits (*measure_limits)(Machine&);
};

std::unique_ptr<Backend> make_backend(std::unique_ptr<Device> device, const Kernels& kernels);

}  // namespace millrace::cuda
