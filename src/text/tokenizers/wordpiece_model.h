// WordPiece (BERT): the longest token that begins a word, then the longest that continues it, and so on; a
// word that cannot be written so is unknown as a whole. And WordLevel: a whole word is a token or unknown.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "text/tokenizers/byte_trie.h"
#include "text/tokenizers/token_model.h"
#include "text/tokenizers/vocabulary.h"

namespace millrace {

class WordpieceModel : public TokenModel {
 public:
  struct Parts {
    ByteTrie beginnings;     // tokens that begin a word, to ids
    ByteTrie continuations;  // tokens that continue one, without their mark
    int32_t unknown = 0;
    size_t max_chars = 100;  // of a word; a longer one is unknown
  };
  explicit WordpieceModel(Parts parts) : parts_(std::move(parts)) {}
  void encode(std::string_view piece, Scratch& scratch) const override;

 private:
  bool encode_known(std::string_view word, Scratch& scratch) const;
  Parts parts_;
};

class WordLevelModel : public TokenModel {
 public:
  WordLevelModel(const Vocabulary& vocabulary, int32_t unknown)
      : vocabulary_(vocabulary), unknown_(unknown) {}
  void encode(std::string_view piece, Scratch& scratch) const override {
    scratch.ids.push(vocabulary_.find(piece).value_or(unknown_));
  }

 private:
  const Vocabulary& vocabulary_;
  int32_t unknown_;
};

}  // namespace millrace
