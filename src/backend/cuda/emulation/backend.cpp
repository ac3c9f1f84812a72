#include "backend/cuda/backend.h"

#include "backend/cuda/cuda.h"
#include "backend/cuda/emulation/device.h"
#include "backend/cuda/text/compute.inl"

namespace millrace {

std::unique_ptr<Backend> make_emulated_cuda_backend(EmulatedThreads threads) {
  using cuda::emulated::Order;
  const Order order = threads == EmulatedThreads::ascending ? Order::ascending : Order::descending;
  const auto measure = [](cuda::Machine& machine) {
    return cuda::emulated::measure_limits(machine, {.bytes_a_processor = 1 << 20, .n_rounds = 4});
  };
  return cuda::make_backend(std::make_unique<cuda::emulated::EmulatedDevice>(order),
                            {.run = cuda::emulated::run, .measure_limits = measure});
}

}  // namespace millrace
