// A set of byte strings, each with a value, for walks over a text from one place on: which strings begin
// here?
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace {

class ByteTrie {
 public:
  using Entry = std::pair<std::string_view, int32_t>;

  ByteTrie() { root_.fill(-1); }
  // Empty strings are left out; of equal strings the first one stays.
  explicit ByteTrie(std::vector<Entry> entries);

  bool is_empty() const { return nodes_.empty(); }
  bool begins_with(char byte) const { return root_[static_cast<uint8_t>(byte)] >= 0; }

  // Calls `match(n_bytes, value)` for every string that `text` has at `at`, shortest first.
  // Returns whether the text ended where a string could have gone on.
  template <class Match>
  bool walk(std::string_view text, size_t at, Match&& match) const {
    if (at >= text.size()) return false;
    int32_t node = root_[static_cast<uint8_t>(text[at])];
    for (size_t end = at + 1; node >= 0; ++end) {
      if (nodes_[static_cast<size_t>(node)].value >= 0)
        match(end - at, nodes_[static_cast<size_t>(node)].value);
      if (end >= text.size()) return nodes_[static_cast<size_t>(node)].n_edges > 0;
      node = child(node, static_cast<uint8_t>(text[end]));
    }
    return false;
  }

 private:
  struct Node {
    int32_t first_edge = 0;
    int32_t n_edges = 0;
    int32_t value = -1;
  };
  // Children of one node lie side by side: their bytes in edges_, ascending, and edge i leads to node i.
  int32_t child(int32_t node, uint8_t byte) const {
    const Node& from = nodes_[static_cast<size_t>(node)];
    const uint8_t* edges = edges_.data() + from.first_edge;
    int32_t low = 0, n = from.n_edges;
    while (n > 0) {
      const int32_t half = n / 2;
      if (edges[low + half] < byte) {
        low += half + 1;
        n -= half + 1;
      } else {
        n = half;
      }
    }
    return low < from.n_edges && edges[low] == byte ? from.first_edge + low : -1;
  }

  std::array<int32_t, 256> root_{};
  std::vector<Node> nodes_;
  std::vector<uint8_t> edges_;  // edges_[i] is the byte that leads to node i
};

}  // namespace millrace
