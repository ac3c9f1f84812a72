// From tokenizer.json to the tokenizer.ggml.* keys of a GGUF file.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "text/tokenizer.h"

namespace millrace {

// The keys that make load_tokenizer() the tokenizer that load_tokenizer_json() makes of the same file.
class GgufTokenizerKeys {
 public:
  // `config`: tokenizer_config.json, or null. `n_vocab`: the rows of the model's embedding; tokens are padded
  // to as many. Throws Error(bad_model) where GGUF has no words for what the file says, and where the two
  // tokenizers differ on any of a set of texts (every token among them).
  GgufTokenizerKeys(const Json& tokenizer, const Json& config, int64_t n_vocab);

  // The strings are views into this.
  const std::vector<std::pair<std::string, MetaValue>>& entries() const { return entries_; }

 private:
  void set(std::string_view key, MetaValue value);
  std::string_view keep(std::string_view text) { return texts_.emplace_back(text); }
  // How GGUF spells the pieces of the vocabulary.
  enum class Spelling { as_it_is, with_byte_tokens, with_marked_beginnings };
  void write_tokens(const Json& tokenizer, int64_t n_vocab, Spelling spelling);
  void write_byte_level(const Json& tokenizer);
  void write_sentence_piece(const Json& tokenizer, int64_t n_vocab);
  void write_wordpiece(const Json& tokenizer);
  void write_special(const Tokenizer& original, const Json& config);
  void write_wordpiece_special(const Tokenizer& original, const Json& config);
  // Whether every token must also read the same: of WordPiece, GGUF keeps no rules for spaces.
  enum class Compare { ids, ids_and_texts };
  void verify(const Tokenizer& original, Compare compare) const;

  std::vector<std::pair<std::string, MetaValue>> entries_;
  std::deque<std::string> texts_;  // stable addresses
};

}  // namespace millrace
