// Tokenizer files of other kinds as the tokenizer.ggml.* keys of a GGUF file, from which load_tokenizer()
// makes the tokenizer.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "checkpoint/checkpoint.h"

namespace millrace {

// Keys, and the strings that they point at.
class TokenizerKeys {
 public:
  // `key` without "tokenizer.ggml.".
  void set(std::string_view key, MetaValue value) {
    entries_.emplace_back("tokenizer.ggml." + std::string(key), std::move(value));
  }
  std::string_view keep(std::string_view text) { return texts_.emplace_back(text); }

  const std::vector<std::pair<std::string, MetaValue>>& entries() const { return entries_; }
  // Must not outlive this.
  Metadata metadata() const {
    Metadata metadata;
    for (const auto& [key, value] : entries_) metadata.add(key, value);
    return metadata;
  }

 private:
  std::vector<std::pair<std::string, MetaValue>> entries_;
  std::deque<std::string> texts_;  // stable addresses
};

// Of a tokenizer.json, with what tokenizer_config.json (or null) adds: the keys that make load_tokenizer()
// the tokenizer that load_tokenizer_json() makes of the same file. Tokens are padded to `n_vocab`. Throws
// Error(bad_model) where GGUF has no words for what the file says, and where the two tokenizers differ on any
// of a set of texts (every token among them).
std::unique_ptr<TokenizerKeys> tokenizer_json_keys(const Json& tokenizer, const Json& config,
                                                   int64_t n_vocab);

// Of a SentencePiece tokenizer.model, with what tokenizer_config.json (or null) adds. The vocabulary is
// padded to `n_vocab` tokens (0: as many as there are). Throws Error(bad_model).
std::unique_ptr<TokenizerKeys> sentence_piece_keys(std::string_view file, const Json& config,
                                                   int64_t n_vocab);

// Of Mistral's tekken.json. Throws Error(bad_model).
std::unique_ptr<TokenizerKeys> tekken_keys(const Json& tekken, int64_t n_vocab);

}  // namespace millrace
