// Byte pair encoding: the symbols of a piece (bytes or characters) are joined, pair by pair, the lowest rank
// first and of equal ranks the leftmost. One engine for byte-level BPE (gpt2), for SentencePiece BPE by score
// and for tokenizer.json BPE with byte fallback; they differ in what bpe_symbols.h prepares.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizers/merge_table.h"
#include "text/tokenizers/token_model.h"
#include "text/tokenizers/vocabulary.h"

namespace millrace {

// The parts of a BPE model, prepared by a loader (bpe_symbols.h).
struct BpeParts {
  MergeTable merges;
  // SentencePiece has no merges but scores: two symbols join where that makes a token, which has this rank
  // (by id; 0 is the highest score). Empty: by `merges`.
  std::vector<uint32_t> score_ranks;
  // The tokens as the text spells them (raw bytes for byte-level); empty for ids that no text becomes.
  std::vector<std::string_view> spellings;
  std::unique_ptr<std::string> arena;  // what spellings point to, where that is not the vocabulary
  PieceTable by_spelling;

  bool is_byte_level = false;
  // A whole piece that is a token is that token, whatever the merges say (Llama 3, tekken).
  bool ignores_merges = false;
  // What an unknown character becomes: its bytes before merging (tokenizer.json) or after (SentencePiece).
  enum class Fallback { none, bytes_first, bytes_last } fallback = Fallback::none;
  std::vector<int32_t> byte_tokens;  // 256, -1 where there is none
  std::optional<int32_t> unknown;    // for what is left
  bool fuses_unknown = false;
  std::string word_prefix, word_suffix;  // of parts that continue a word, and of the last part
};

class BpeModel : public TokenModel {
 public:
  explicit BpeModel(BpeParts parts);
  void encode(std::string_view piece, Scratch& scratch) const override;

 private:
  void encode_word(std::string_view word, Scratch& scratch) const;
  void merge_word(std::string_view word, Scratch& scratch) const;
  void split_into_symbols(std::string_view word, Scratch& scratch) const;
  void add_character(std::string_view word, size_t at, size_t n_bytes, Scratch& scratch) const;
  void add_unknown(Scratch::Symbol place, Scratch& scratch) const;
  int32_t symbol_of(std::string_view character, bool is_first, bool is_last) const;
  MergeTable::Merge find_merge(std::string_view word, const Scratch::Symbol& left,
                               const Scratch::Symbol& right) const;
  void merge_short(std::string_view word, Scratch& scratch) const;
  void merge_long(std::string_view word, Scratch& scratch) const;
  void emit(std::string_view word, Scratch& scratch) const;
  void emit_bytes(std::string_view bytes, Scratch& scratch, bool after_unknown) const;

  void find_cuts();
  size_t next_cut(std::string_view piece, size_t from) const;

  BpeParts parts_;
  std::array<int32_t, 256> ascii_{};  // symbols of single bytes; -1: none
  size_t n_longest_ = 0;              // bytes of the longest spelling
  // A text without splits of its own may be cut between two characters that stand side by side in no token:
  // no merge reaches over such a cut. is_joined_[a * kNClasses + b]: characters of these classes do, in some
  // token. A class is an ASCII character, U+2581, or all others.
  static constexpr size_t kNClasses = 130;
  std::vector<uint8_t> is_joined_;  // empty: no cuts
};

}  // namespace millrace
