// Importance matrices from anywhere, of either form. What is read is finite and not negative.
#include <cmath>

#include "checkpoint/importance.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  const MemoryFile file(data, size);
  try {
    const Importance importance(file.path());
    for (const float value : importance.find("w.q"))
      check(std::isfinite(value) && value >= 0.0f, "a weight is a weight");
  } catch (const Error&) {
  }
  return 0;
}
