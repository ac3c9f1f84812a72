// Unigram: of all ways to write a piece as tokens the one with the highest sum of scores (Viterbi).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizers/byte_trie.h"
#include "text/tokenizers/token_model.h"

namespace millrace {

class UnigramModel : public TokenModel {
 public:
  struct Parts {
    std::vector<ByteTrie::Entry> tokens;  // what text can become, to ids
    std::vector<double> scores;           // by id
    std::optional<int32_t> unknown;
    std::vector<int32_t> byte_tokens;  // by which unknown text is written; empty: by `unknown`
  };
  // Throws Error(bad_model) for a token that is too long.
  explicit UnigramModel(Parts parts);
  void encode(std::string_view piece, Scratch& scratch) const override;

 private:
  void find_best(std::string_view piece, Scratch& scratch) const;
  void emit(std::string_view piece, Scratch& scratch) const;
  void emit_unknown(std::string_view text, Scratch& scratch) const;

  Parts parts_;
  ByteTrie trie_;
  double unknown_score_ = 0;
};

}  // namespace millrace
