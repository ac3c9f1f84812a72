// Sets of characters, as the classes of regular expressions name them.
#pragma once

#include <cstdint>
#include <vector>

namespace millrace {

// Code points, never a surrogate.
class CharClass {
 public:
  struct Range {
    uint32_t first, last;
    bool operator==(const Range&) const = default;
  };

  CharClass() = default;
  CharClass(uint32_t first, uint32_t last) { add(first, last); }
  static CharClass all() { return {0, kLast}; }

  void add(uint32_t first, uint32_t last);
  void add(const CharClass& other);
  CharClass negated() const;
  CharClass without(const CharClass& other) const;
  // Letters of ASCII in the other case too.
  CharClass in_both_cases() const;

  bool has(uint32_t code_point) const;
  bool is_empty() const { return ranges_.empty(); }
  // Ascending, apart from each other.
  const std::vector<Range>& ranges() const { return ranges_; }

  static constexpr uint32_t kLast = 0x10ffff;

 private:
  std::vector<Range> ranges_;
};

}  // namespace millrace
