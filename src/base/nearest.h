// "Did you mean": the known name nearest to a mistaken one.
#pragma once

#include <span>
#include <string_view>

namespace millrace {

// Of `known` (not empty), the name with the fewest edits (Levenshtein) from the first 64 bytes of `name`.
std::string_view nearest_name(std::string_view name, std::span<const std::string_view> known);

}  // namespace millrace
