// A tokenizer put together from parts, which is what every kind is: find added tokens, normalise what lies
// between them, cut it into pieces, give each piece to the model, add the tokens of the template. The loaders
// (gguf_tokenizer.cpp, json_tokenizer.cpp) choose the parts.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "text/tokenizer.h"
#include "text/tokenizers/added_tokens.h"
#include "text/tokenizers/decoder.h"
#include "text/tokenizers/normalizer.h"
#include "text/tokenizers/pair_part.h"
#include "text/tokenizers/split.h"
#include "text/tokenizers/token_model.h"
#include "text/tokenizers/vocabulary.h"

namespace millrace {

struct TokenizerParts {
  std::unique_ptr<Vocabulary> vocabulary;  // kinds `control` and `unknown` are hidden from decoded text
  AddedTokens added;                       // found in the text as it came
  NormalizerSteps normalizers;
  AddedTokens added_after;  // found in the normalised text
  SplitSteps splits;
  std::unique_ptr<TokenModel> model;
  std::vector<int32_t> prefix, suffix;                  // what add_special adds
  std::vector<PairPart> pair;                           // how two texts stand together; empty: unknown
  DecoderSteps decoders;                                // none: tokens joined by spaces
  std::unordered_map<int32_t, std::string> decoded_as;  // where that is not the spelling
  std::optional<int32_t> bos, eos;
  std::vector<int32_t> end_tokens;  // ascending
};

class ComposedTokenizer final : public Tokenizer {
 public:
  explicit ComposedTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {}

  std::vector<int32_t> encode(std::string_view text, Options options) const override;
  std::vector<size_t> control_begins(std::string_view text) const override;
  std::optional<Pair> encode_pair(std::string_view first, std::string_view second) const override;
  std::string token_bytes(int32_t id, bool show_special) const override;
  std::string decode(std::span<const int32_t> ids, bool show_special) const override;
  std::string piece(int32_t id) const override;
  int32_t n_vocab() const override { return parts_.vocabulary->size(); }
  std::optional<int32_t> find_piece(std::string_view piece) const override {
    return parts_.vocabulary->find(piece);
  }
  std::optional<int32_t> bos() const override { return parts_.bos; }
  std::optional<int32_t> eos() const override { return parts_.eos; }
  std::span<const int32_t> end_tokens() const override { return parts_.end_tokens; }

 private:
  void encode_text(std::string_view text, Options options, Scratch& scratch) const;
  void encode_fragment(TextPiece fragment, bool has_control, Scratch& scratch) const;
  std::string_view spelling(int32_t id) const;
  bool is_shown(int32_t id, bool show_special) const;
  std::unique_ptr<Scratch> lease() const;
  void give_back(std::unique_ptr<Scratch> scratch) const;

  TokenizerParts parts_;
  // Working memory that waits for the next call; as many as have been in use at once.
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace millrace
