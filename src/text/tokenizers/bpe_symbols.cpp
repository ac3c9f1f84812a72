#include "text/tokenizers/bpe_symbols.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "text/tokenizers/byte_level.h"

namespace millrace {
namespace {

// A token of n bytes can be made in n ways, each looked up in n/16 steps. Real ones have at most some
// hundred.
constexpr size_t kMaxScoredBytes = 512;

std::vector<std::string_view> raw_spellings(BpeParts& parts, const Vocabulary& vocabulary,
                                            const IsSymbol& is_symbol) {
  parts.arena = std::make_unique<std::string>();
  std::vector<size_t> ends(static_cast<size_t>(vocabulary.size()));
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (is_symbol(id)) append_from_byte_level(*parts.arena, vocabulary.piece(id));
    ends[static_cast<size_t>(id)] = parts.arena->size();
  }
  std::vector<std::string_view> spellings(ends.size());
  size_t begin = 0;
  for (size_t id = 0; id < ends.size(); ++id) {
    spellings[id] = std::string_view(*parts.arena).substr(begin, ends[id] - begin);
    begin = ends[id];
  }
  return spellings;
}

std::vector<std::string_view> plain_spellings(const Vocabulary& vocabulary, const IsSymbol& is_symbol) {
  std::vector<std::string_view> spellings(vocabulary.pieces().begin(), vocabulary.pieces().end());
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!is_symbol(id)) spellings[static_cast<size_t>(id)] = {};
  }
  return spellings;
}

void index_spellings(BpeParts& parts) {
  parts.by_spelling = PieceTable(parts.spellings.size());
  for (size_t id = 0; id < parts.spellings.size(); ++id) {
    if (!parts.spellings[id].empty()) parts.by_spelling.insert(parts.spellings, static_cast<int32_t>(id));
  }
}

// Equal scores have equal ranks, so that the leftmost pair wins among them. Rank 0 is the highest score.
std::vector<uint32_t> ranks_of(std::span<const double> scores) {
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto score = [scores](int32_t id) { return scores[static_cast<size_t>(id)]; };
  std::ranges::sort(order, std::greater<>(), score);
  std::vector<uint32_t> ranks(scores.size());
  for (size_t i = 1; i < order.size(); ++i) {
    const auto id = static_cast<size_t>(order[i]);
    const auto before = static_cast<size_t>(order[i - 1]);
    ranks[id] = ranks[before] + (scores[id] < scores[before] ? 1 : 0);
  }
  return ranks;
}

}  // namespace

void add_symbols(BpeParts& parts, const Vocabulary& vocabulary, const IsSymbol& is_symbol) {
  parts.spellings = parts.is_byte_level ? raw_spellings(parts, vocabulary, is_symbol)
                                        : plain_spellings(vocabulary, is_symbol);
  index_spellings(parts);
}

void add_merges(BpeParts& parts, const Vocabulary& vocabulary, std::span<const MergeText> merges,
                UnknownMerge unknown) {
  parts.merges = MergeTable(merges.size());
  std::string joined;
  const auto refuse = [](std::string_view text) {
    fail(ErrorKind::bad_model, "a merge of the tokenizer names \"{}\", which is not in its vocabulary",
         printable(text));
  };
  for (size_t i = 0; i < merges.size(); ++i) {
    const size_t rank = unknown == UnknownMerge::refuse ? merges.size() - 1 - i : i;
    const auto& [left_text, right_text] = merges[rank];
    const auto left = vocabulary.find(left_text), right = vocabulary.find(right_text);
    joined.assign(left_text);
    joined.append(right_text.substr(std::min(parts.word_prefix.size(), right_text.size())));
    const auto symbol = vocabulary.find(joined);
    if (left && right && symbol) {
      parts.merges.insert(*left, *right, static_cast<uint32_t>(rank), *symbol);
    } else if (unknown == UnknownMerge::refuse) {
      refuse(!left ? left_text : !right ? right_text : std::string_view(joined));
    }
  }
}

void add_scores(BpeParts& parts, std::span<const double> scores) {
  check(scores.size() == parts.spellings.size(), "a score for every token");
  if (std::ranges::any_of(scores, [](double score) { return std::isnan(score); })) {
    fail(ErrorKind::bad_model, "tokenizer.ggml.scores holds a value that is not a number");
  }
  for (size_t id = 0; id < parts.spellings.size(); ++id) {
    const size_t n_bytes = parts.spellings[id].size();
    if (n_bytes <= kMaxScoredBytes) continue;
    fail(ErrorKind::bad_model, "token {} has {} bytes, the most for this kind of tokenizer are {}", id,
         n_bytes, kMaxScoredBytes);
  }
  parts.score_ranks = ranks_of(scores);
}

}  // namespace millrace
