// Saved predictions from anywhere: every row can be read or is refused.
#include <cmath>

#include "checkpoint/logits_base.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  const MemoryFile file(data, size);
  try {
    const LogitsBase base(file.path());
    const ScoredWindows& windows = base.windows();
    std::vector<float> row(static_cast<size_t>(windows.n_vocab));
    for (int64_t w = 0; w < windows.n_windows; ++w) {
      for (int64_t i = 0; i < windows.n_scored(); ++i) {
        base.read(w, i, row);
        for (const float value : row) check(std::isfinite(value), "a logarithm is finite");
      }
    }
  } catch (const Error&) {
  }
  return 0;
}
