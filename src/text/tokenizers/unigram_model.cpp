#include "text/tokenizers/unigram_model.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/utf8.h"

namespace millrace {
namespace {

constexpr double kUnknownPenalty = 10;
constexpr size_t kMaxBytes = 256;  // at each place so many bytes may be walked
constexpr int32_t kNoPath = -2;
constexpr int32_t kUnknown = -1;

}  // namespace

UnigramModel::UnigramModel(Parts parts) : parts_(std::move(parts)) {
  double lowest = std::numeric_limits<double>::infinity();
  for (const auto& [text, id] : parts_.tokens) {
    if (text.size() > kMaxBytes) {
      fail(ErrorKind::bad_model, "token {} has {} bytes, the most for a unigram tokenizer are {}", id,
           text.size(), kMaxBytes);
    }
    lowest = std::min(lowest, parts_.scores[static_cast<size_t>(id)]);
  }
  unknown_score_ = lowest - kUnknownPenalty;
  trie_ = ByteTrie(std::move(parts_.tokens));
  parts_.tokens = {};
}

void UnigramModel::encode(std::string_view piece, Scratch& scratch) const {
  if (piece.empty()) return;
  find_best(piece, scratch);
  emit(piece, scratch);
}

// steps[i]: the best way to write the first i bytes, and its last token.
void UnigramModel::find_best(std::string_view piece, Scratch& scratch) const {
  auto& steps = scratch.steps;
  steps.assign(piece.size() + 1, {0, kNoPath, 0});
  const auto offer = [&](size_t end, double score, int32_t id, size_t from) {
    Scratch::Step& step = steps[end];
    if (step.id == kNoPath || score > step.score) step = {score, id, static_cast<uint32_t>(from)};
  };
  for (size_t at = 0; at < piece.size();) {
    const auto n_char = static_cast<size_t>(next_utf8(piece, at).n_bytes);
    const double here = steps[at].score;
    bool has_single = false;
    trie_.walk(piece, at, [&](size_t n_bytes, int32_t id) {
      offer(at + n_bytes, here + parts_.scores[static_cast<size_t>(id)], id, at);
      has_single |= n_bytes == n_char;
    });
    if (!has_single) offer(at + n_char, here + unknown_score_, kUnknown, at);
    at += n_char;
  }
}

// From the end back; neighbouring unknown characters are one.
void UnigramModel::emit(std::string_view piece, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  for (size_t end = piece.size(); end > 0;) {
    const Scratch::Step& step = scratch.steps[end];
    if (step.id == kUnknown && !symbols.empty() && symbols.back().id == kUnknown) {
      symbols.back().begin = step.from;
    } else {
      symbols.push_back({step.id, step.from, static_cast<uint32_t>(end), -1, -1});
    }
    end = step.from;
  }
  for (auto symbol = symbols.rbegin(); symbol != symbols.rend(); ++symbol) {
    if (symbol->id != kUnknown) {
      scratch.ids.push(symbol->id);
      continue;
    }
    emit_unknown(piece.substr(symbol->begin, symbol->end - symbol->begin), scratch);
  }
}

void UnigramModel::emit_unknown(std::string_view text, Scratch& scratch) const {
  const auto has_token = [this](char byte) { return parts_.byte_tokens[static_cast<uint8_t>(byte)] >= 0; };
  if (!parts_.byte_tokens.empty() && std::ranges::all_of(text, has_token)) {
    for (const char byte : text) scratch.ids.push(parts_.byte_tokens[static_cast<uint8_t>(byte)]);
  } else if (parts_.unknown) {
    scratch.ids.push(*parts_.unknown);
  }
}

}  // namespace millrace
