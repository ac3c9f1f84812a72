#include "grammar/char_class.h"

#include <algorithm>

namespace millrace {
namespace {

constexpr uint32_t kFirstSurrogate = 0xd800, kLastSurrogate = 0xdfff;

}  // namespace

void CharClass::add(uint32_t first, uint32_t last) {
  last = std::min(last, kLast);
  if (first < kFirstSurrogate && last > kLastSurrogate) {
    add(first, kFirstSurrogate - 1);
    return add(kLastSurrogate + 1, last);
  }
  if (first >= kFirstSurrogate && first <= kLastSurrogate) first = kLastSurrogate + 1;
  if (last >= kFirstSurrogate && last <= kLastSurrogate) last = kFirstSurrogate - 1;
  if (first > last) return;
  auto at = std::ranges::lower_bound(ranges_, first, {}, [](const Range& r) { return r.last + 1; });
  auto end = at;
  for (; end != ranges_.end() && end->first <= last + 1; ++end) {
    first = std::min(first, end->first);
    last = std::max(last, end->last);
  }
  at = ranges_.erase(at, end);
  ranges_.insert(at, {first, last});
}

void CharClass::add(const CharClass& other) {
  for (const Range& range : other.ranges_) add(range.first, range.last);
}

CharClass CharClass::negated() const {
  CharClass out;
  uint32_t next = 0;
  for (const Range& range : ranges_) {
    if (range.first > next) out.add(next, range.first - 1);
    next = range.last + 1;
  }
  if (next <= kLast) out.add(next, kLast);
  return out;
}

CharClass CharClass::without(const CharClass& other) const {
  CharClass kept = negated();
  kept.add(other);
  return kept.negated();
}

CharClass CharClass::in_both_cases() const {
  CharClass out = *this;
  for (const Range& range : ranges_) {
    const auto shift = [&](uint32_t first, uint32_t last, int by) {
      const uint32_t low = std::max(first, range.first), high = std::min(last, range.last);
      if (low <= high) out.add(low + static_cast<uint32_t>(by), high + static_cast<uint32_t>(by));
    };
    shift('a', 'z', 'A' - 'a');
    shift('A', 'Z', 'a' - 'A');
  }
  return out;
}

bool CharClass::has(uint32_t code_point) const {
  const auto at = std::ranges::lower_bound(ranges_, code_point, {}, &Range::last);
  return at != ranges_.end() && at->first <= code_point;
}

}  // namespace millrace
