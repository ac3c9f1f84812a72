// A safetensors file from anywhere. What the reader lets through tiles the data to the last byte.
#include "checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  try {
    const auto tensors = parse_safetensors(std::as_bytes(std::span(data, size)), "fuzzed");
    uint64_t n_header = 0;
    std::copy_n(data, sizeof n_header, reinterpret_cast<uint8_t*>(&n_header));
    size_t n_bytes = sizeof n_header + n_header;
    for (const SafetensorsTensor& tensor : tensors.all()) n_bytes += tensor.bytes.size();
    check(n_bytes == size, "the tensors tile the data");
  } catch (const Error&) {
  }
  return 0;
}
