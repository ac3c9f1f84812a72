// Prepares the symbols and merges of a BPE model from what the files hold: a list of merges, or scores.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizers/bpe_model.h"
#include "text/tokenizers/vocabulary.h"

namespace millrace {

// Which ids text can become: those of the model itself, without control tokens.
using IsSymbol = std::function<bool(int32_t id)>;

// Fills spellings and by_spelling. `is_byte_level`: the vocabulary is written in the byte-level alphabet, and
// the spellings are the bytes that it means.
void add_symbols(BpeParts& parts, const Vocabulary& vocabulary, const IsSymbol& is_symbol);

// One merge of two tokens, as the vocabulary spells them.
struct MergeText {
  std::string_view left, right;
};
enum class UnknownMerge { skip, refuse };
// Merges in the order of their ranks. A merge that names no token, or makes none, is skipped (of equal merges
// the first one counts) or refused with Error(bad_model) (the last one counts): as GGUF's and
// tokenizer.json's originals do.
void add_merges(BpeParts& parts, const Vocabulary& vocabulary, std::span<const MergeText> merges,
                UnknownMerge unknown);

// The ranks of SentencePiece BPE, where the highest score joins first. Throws Error(bad_model) for a score
// that is no number, and for a token that is too long.
void add_scores(BpeParts& parts, std::span<const double> scores);

}  // namespace millrace
