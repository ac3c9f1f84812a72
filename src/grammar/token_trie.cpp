#include "grammar/token_trie.h"

#include <algorithm>

#include "grammar/automaton.h"
#include "grammar/rules.h"

namespace millrace {
namespace {

// What a grammar sees of a token: its bytes, those of its name for a control token, nothing for a token that
// no grammar draws.
std::string seen_bytes(const Tokenizer& tokenizer, int32_t token) {
  std::string bytes = tokenizer.token_bytes(token, false);
  if (bytes.empty()) {
    const std::string piece = tokenizer.piece(token);
    if (piece.empty() || piece.find('\xff') != std::string::npos) return {};
    bytes = special_token_bytes(piece);
  } else if (bytes.find('\xff') != std::string::npos || bytes.find('\xfe') != std::string::npos) {
    return {};
  }
  return bytes.size() <= kMaxTokenBytes ? bytes : std::string();
}

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer, int32_t n_vocab) {
  const int32_t n_known = tokenizer.n_vocab();
  if (n_vocab == 0) n_vocab = n_known;
  bytes_begin_.reserve(static_cast<size_t>(n_vocab) + 1);
  for (int32_t token = 0; token < n_vocab; ++token) {
    bytes_begin_.push_back(static_cast<uint32_t>(bytes_.size()));
    if (token < n_known) bytes_ += seen_bytes(tokenizer, token);
  }
  bytes_begin_.push_back(static_cast<uint32_t>(bytes_.size()));
  build();
}

void TokenTrie::build() {
  for (int32_t token = 0; token < n_vocab(); ++token)
    if (!bytes_of(token).empty()) tokens_.push_back(token);
  std::ranges::sort(tokens_, [&](int32_t a, int32_t b) {
    const int order = bytes_of(a).compare(bytes_of(b));
    return order != 0 ? order < 0 : a < b;
  });
  std::vector<uint32_t> path;  // the nodes from the root to the newest one
  std::string_view before;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view bytes = bytes_of(tokens_[i]);
    size_t shared = 0;
    while (shared < std::min(before.size(), bytes.size()) && before[shared] == bytes[shared]) ++shared;
    for (; path.size() > shared; path.pop_back())
      nodes_[path.back()].after = static_cast<uint32_t>(nodes_.size());
    for (; path.size() < bytes.size();) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.after = 0,
                        .tokens_begin = static_cast<uint32_t>(i),
                        .byte = static_cast<uint8_t>(bytes[path.size() - 1]),
                        .depth = static_cast<uint8_t>(path.size())});
    }
    before = bytes;
  }
  for (const uint32_t node : path) nodes_[node].after = static_cast<uint32_t>(nodes_.size());
  const auto end = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back(
      {.after = end, .tokens_begin = static_cast<uint32_t>(tokens_.size()), .byte = 0, .depth = 0});
}

}  // namespace millrace
