#include "backend/cuda/backend.h"

#include "backend/cuda/cuda.h"
#include "backend/cuda/emulation/device.h"
#include "backend/cuda/text/compute.inl"

namespace millrace {

std::unique_ptr<Backend> make_emulated_cuda_backend(EmulatedThreads threads) {
  using cuda::emulated::Order;
  const Order order = threads == EmulatedThreads::ascending ? Order::ascending : Order::descending;
  return cuda::make_backend(std::make_unique<cuda::emulated::EmulatedDevice>(order), cuda::emulated::run);
}

}  // namespace millrace
