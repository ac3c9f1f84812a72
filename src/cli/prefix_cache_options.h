// Where prefixes are kept beyond the memory of the cache: the options of verbs whose engine lives for long,
// or is started again for the same beginnings.
#pragma once

#include <optional>
#include <string>

#include "base/args.h"
#include "cli/loaded_model.h"

namespace millrace {

class PrefixCacheOptions {
 public:
  void declare(Args& args);
  // `path` is MODEL as it was given. Throws Error(usage) for a size that is none.
  Engine::TierOptions tier(const LoadedModel& loaded, const std::filesystem::path& path) const;

 private:
  std::optional<std::string> dir_, disk_;
};

}  // namespace millrace
