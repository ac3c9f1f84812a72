#include "text/tokenizers/precompiled_charsmap.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "text/unicode.h"

namespace millrace {
namespace {

// A unit of the trie: bits 0-7 the label (bit 31 set in a value), bit 8 "a value hangs below", bit 9 and
// 10-30 the offset to the children, relative by exclusive or.
constexpr uint32_t kIsValue = 1u << 31;
// Bounds against data that loop or swell; real rules have at most some tens of bytes.
constexpr size_t kMaxRuleBytes = 256;
constexpr size_t kMaxReplacementBytes = 256;

bool begins_character(std::string_view text, size_t at) {
  return at >= text.size() || (static_cast<uint8_t>(text[at]) & 0xc0) != 0x80;
}

uint32_t label_of(uint32_t unit) { return unit & (kIsValue | 0xff); }
bool has_value(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

}  // namespace

PrecompiledCharsmap::PrecompiledCharsmap(std::string_view blob) {
  uint32_t n_trie_bytes = 0;
  if (blob.size() >= sizeof(n_trie_bytes)) std::memcpy(&n_trie_bytes, blob.data(), sizeof(n_trie_bytes));
  if (blob.size() < sizeof(n_trie_bytes) || n_trie_bytes > blob.size() - sizeof(n_trie_bytes) ||
      n_trie_bytes % sizeof(uint32_t) != 0) {
    fail(ErrorKind::bad_model, "the precompiled charsmap has {} bytes and claims a trie of {}", blob.size(),
         n_trie_bytes);
  }
  units_.resize(n_trie_bytes / sizeof(uint32_t));
  if (!units_.empty()) std::memcpy(units_.data(), blob.data() + sizeof(n_trie_bytes), n_trie_bytes);
  replacements_ = blob.substr(sizeof(n_trie_bytes) + n_trie_bytes);
  if (!is_valid_utf8(replacements_))
    fail(ErrorKind::bad_model, "the precompiled charsmap is not valid UTF-8");
  for (size_t at = 0; at < replacements_.size();) {
    const size_t end = std::min(replacements_.find('\0', at), replacements_.size());
    if (end - at > kMaxReplacementBytes) {
      fail(ErrorKind::bad_model,
           "the precompiled charsmap replaces something by {} bytes, the most allowed are {}", end - at,
           kMaxReplacementBytes);
    }
    at = end + 1;
  }
}

// Beyond the end there is only a unit that is nobody's child.
uint32_t PrecompiledCharsmap::unit(uint64_t index) const {
  return index < units_.size() ? units_[index] : kIsValue;
}

PrecompiledCharsmap::Found PrecompiledCharsmap::find(std::string_view text, bool wants_longest) const {
  Found found;
  if (units_.empty()) return found;
  uint64_t node = offset_of(unit(0));
  const size_t n_max = std::min(text.size(), kMaxRuleBytes);
  for (size_t i = 0; i < n_max && text[i] != '\0'; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    const uint32_t here = unit(node);
    if (label_of(here) != byte) break;
    node ^= offset_of(here);
    if (!has_value(here)) continue;
    const uint32_t place = unit(node) & ~kIsValue;
    if (place >= replacements_.size()) break;
    if (!begins_character(text, i + 1) || !begins_character(replacements_, place)) continue;
    const std::string_view rest = std::string_view(replacements_).substr(place);
    found = {i + 1, rest.substr(0, rest.find('\0'))};
    if (!wants_longest) break;
  }
  return found;
}

}  // namespace millrace
