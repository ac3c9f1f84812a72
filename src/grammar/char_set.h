// Sets of characters, as the classes of regular expressions name them.
#pragma once

#include <cstdint>
#include <vector>

namespace millrace {

// Code points, never a surrogate.
class CharSet {
 public:
  struct Range {
    uint32_t first, last;
    bool operator==(const Range&) const = default;
  };

  CharSet() = default;
  CharSet(uint32_t first, uint32_t last) { add(first, last); }
  static CharSet all() { return {0, kLast}; }

  void add(uint32_t first, uint32_t last);
  void add(const CharSet& other);
  CharSet negated() const;
  CharSet without(const CharSet& other) const;
  // Letters of ASCII in the other case too.
  CharSet in_both_cases() const;

  bool has(uint32_t code_point) const;
  bool is_empty() const { return ranges_.empty(); }
  // Ascending, apart from each other.
  const std::vector<Range>& ranges() const { return ranges_; }

  static constexpr uint32_t kLast = 0x10ffff;

 private:
  std::vector<Range> ranges_;
};

}  // namespace millrace
