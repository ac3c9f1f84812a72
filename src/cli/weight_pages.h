// Where the weights lie while they are computed with: where their file is mapped, or, read faster by a tenth,
// in pages of 2 MiB. An option of verbs that compute for more than a moment.
#pragma once

#include <string>
#include <thread>

#include "base/args.h"
#include "cli/loaded_model.h"

namespace millrace {

class WeightPages {
 public:
  void declare(Args& args);
  // Begins to move them on a thread of its own, or leaves them where that gains nothing or memory does not
  // last. Ends with the thread, which must not outlive `loaded`. Throws Error(usage) for a setting that is
  // not known.
  std::jthread move(const LoadedModel& loaded) const;

 private:
  std::string setting_ = "auto";
};

}  // namespace millrace
