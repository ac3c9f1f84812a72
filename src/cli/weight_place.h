// Where the weights lie while they are computed with: where their file is mapped, or copied to where the
// backend reads them fastest. An option of verbs that compute for more than a moment.
#pragma once

#include <chrono>
#include <string>
#include <thread>

#include "base/args.h"
#include "cli/loaded_model.h"

namespace millrace {

class WeightPlace {
 public:
  void declare(Args& args);
  // Begins to copy them on a thread of its own, after `delay` where not asked to, or leaves them where that
  // gains nothing or memory does not last. The thread must not outlive `loaded`. Throws Error(usage) for a
  // setting that is not known.
  std::jthread copy(const LoadedModel& loaded, std::chrono::milliseconds delay = {}) const;

 private:
  std::string setting_ = "auto";
};

}  // namespace millrace
