#include "text/tokenizers/byte_trie.h"

#include <algorithm>

namespace millrace {

// Breadth first over ranges of the sorted strings: a range shares its first `depth` bytes.
ByteTrie::ByteTrie(std::vector<Entry> entries) {
  root_.fill(-1);
  std::erase_if(entries, [](const Entry& entry) { return entry.first.empty(); });
  std::ranges::stable_sort(entries, {}, &Entry::first);
  const auto is_equal = [](const Entry& a, const Entry& b) { return a.first == b.first; };
  entries.erase(std::unique(entries.begin(), entries.end(), is_equal), entries.end());

  struct Range {
    size_t begin, end, depth;
    int32_t node;  // -1: the root
  };
  std::vector<Range> open = {{0, entries.size(), 0, -1}};
  for (size_t i = 0; i < open.size(); ++i) {
    const Range range = open[i];
    size_t at = range.begin;
    if (range.node >= 0 && at < range.end && entries[at].first.size() == range.depth) {
      nodes_[static_cast<size_t>(range.node)].value = entries[at].second;
      ++at;
    }
    const auto first_edge = static_cast<int32_t>(nodes_.size());
    while (at < range.end) {
      const auto byte = static_cast<uint8_t>(entries[at].first[range.depth]);
      size_t end = at + 1;
      while (end < range.end && static_cast<uint8_t>(entries[end].first[range.depth]) == byte) ++end;
      const auto node = static_cast<int32_t>(nodes_.size());
      nodes_.emplace_back();
      edges_.push_back(byte);
      if (range.node < 0) root_[byte] = node;
      open.push_back({at, end, range.depth + 1, node});
      at = end;
    }
    if (range.node >= 0) {
      nodes_[static_cast<size_t>(range.node)].first_edge = first_edge;
      nodes_[static_cast<size_t>(range.node)].n_edges = static_cast<int32_t>(nodes_.size()) - first_edge;
    }
  }
}

}  // namespace millrace
