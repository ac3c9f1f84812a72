// The pre-tokenizers that GGUF files name in tokenizer.ggml.pre: one line each.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

namespace millrace {

struct PreType {
  std::string_view name;
  std::array<const char*, 6> patterns{};  // in order; each cuts the pieces of the one before
  bool ignores_merges = false;            // a whole piece that is a token is that token
  bool adds_bos = false;                  // unless the file says otherwise
  bool is_nfc = false;                    // the text is normalised first
};

// Throws Error(bad_model) for a name that is not in the table: another pattern would give other tokens.
const PreType& find_pre_type(std::string_view name);

// The first of the table with these patterns and settings, or nullptr.
const PreType* match_pre_type(std::span<const std::string> patterns, bool ignores_merges, bool is_nfc);

}  // namespace millrace
