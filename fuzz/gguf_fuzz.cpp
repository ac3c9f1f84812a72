// A GGUF file from anywhere. What the reader lets through must be readable to the last byte.
#include "checkpoint/check.h"
#include "checkpoint/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  try {
    const auto checkpoint = parse_gguf(std::as_bytes(std::span(data, size)), "fuzzed");
    check_weights(*checkpoint, {});
    for (const NamedTensor& named : checkpoint->tensors()) {
      check(checkpoint->find(named.name) == &named.tensor, "a tensor is found by its name");
    }
  } catch (const Error&) {
  }
  return 0;
}
