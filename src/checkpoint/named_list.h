// Things with names, in the order of the file, found by name.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace millrace {

// `Named` has a member `name`. Never more than 2^32.
template <class Named>
class NamedList {
 public:
  NamedList() = default;
  // Throws Error(bad_model) when two have one name.
  explicit NamedList(std::vector<Named> all) : all_(std::move(all)), by_name_(all_.size()) {
    std::iota(by_name_.begin(), by_name_.end(), 0u);
    std::ranges::sort(by_name_, {}, name_of());
    const auto twin = std::ranges::adjacent_find(by_name_, {}, name_of());
    if (twin == by_name_.end()) return;
    fail(ErrorKind::bad_model, "the tensor name \"{}\" occurs twice", printable(name_of()(*twin)));
  }

  std::span<const Named> all() const { return all_; }

  const Named* find(std::string_view name) const {
    const auto at = std::ranges::lower_bound(by_name_, name, {}, name_of());
    if (at == by_name_.end() || name_of()(*at) != name) return nullptr;
    return &all_[*at];
  }

 private:
  auto name_of() const {
    return [this](uint32_t i) -> std::string_view { return all_[i].name; };
  }

  std::vector<Named> all_;
  std::vector<uint32_t> by_name_;  // indices into all_, in the order of their names
};

}  // namespace millrace
