// Pieces of memory in a map by where they begin.
#pragma once

#include <cstddef>
#include <iterator>

namespace millrace {

// The last entry that begins at `address` or before it, in which the address lies if in any; else nullptr.
template <class Map>
auto* last_until(Map& map, const std::byte* address) {
  const auto after = map.upper_bound(address);
  return after == map.begin() ? nullptr : &*std::prev(after);
}

}  // namespace millrace
