// The program, with a device that is lost at SIGUSR1 in the place of the emulated one.
#include <csignal>

#include "backend/cuda/cuda.h"
#include "cli/verbs.h"
#include "frail_backend.h"

namespace {

millrace::testing::FrailBackend* device = nullptr;

void lose_device(int) { device->fault = millrace::testing::Fault::lost; }

}  // namespace

namespace millrace {

// Defined here, so that none is taken from the library.
std::unique_ptr<Backend> make_emulated_cuda_backend(EmulatedThreads /*threads*/) {
  auto frail = std::make_unique<testing::FrailBackend>(make_reference_backend());
  device = frail.get();
  std::signal(SIGUSR1, lose_device);
  return frail;
}

}  // namespace millrace

int main(int argc, char** argv) { return millrace::run_program(argc, argv); }
