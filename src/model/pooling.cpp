#include "model/pooling.h"

#include <algorithm>

namespace millrace {
namespace {

constexpr std::string_view kNames[] = {"none", "mean", "cls", "last", "rank"};

}  // namespace

std::string_view name_of(Pooling pooling) { return kNames[static_cast<size_t>(pooling)]; }

std::optional<Pooling> pooling_of_name(std::string_view name) {
  const auto* found = std::ranges::find(kNames, name);
  if (found == std::end(kNames)) return std::nullopt;
  return static_cast<Pooling>(found - kNames);
}

}  // namespace millrace
