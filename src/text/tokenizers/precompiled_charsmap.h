// SentencePiece's normalisation rules as its model files carry them: a double-array trie of byte strings and
// what each is replaced by.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

class PrecompiledCharsmap {
 public:
  // `blob`: the size of the trie in bytes (u32), the trie (u32 units), the replacements, each ended by a NUL.
  // All little-endian. Throws Error(bad_model) where the parts do not fit into the blob.
  explicit PrecompiledCharsmap(std::string_view blob);

  struct Found {
    size_t n_bytes = 0;  // of the text that is replaced; 0: nothing
    std::string_view replacement = {};
  };
  // The longest and the shortest rule for the beginning of `text`.
  Found longest(std::string_view text) const { return find(text, true); }
  Found shortest(std::string_view text) const { return find(text, false); }

 private:
  Found find(std::string_view text, bool wants_longest) const;
  uint32_t unit(uint64_t index) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace millrace
