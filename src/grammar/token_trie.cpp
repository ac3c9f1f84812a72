#include "grammar/token_trie.h"

#include <algorithm>

#include "base/utf8.h"
#include "grammar/automaton.h"
#include "grammar/rules.h"
#include "grammar/signs.h"

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

TokenTrie::TokenTrie(const Tokenizer& tokenizer, int32_t n_vocab) : tokenizer_(tokenizer) {
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

std::vector<int32_t> TokenTrie::spell(std::string_view text) const {
  std::vector<int32_t> ids = tokenizer_.encode(text, {.add_special = false});
  for (const int32_t id : ids) {
    const std::string_view bytes = id >= 0 && id < n_vocab() ? bytes_of(id) : std::string_view();
    if (bytes.empty() || !text.starts_with(bytes)) return {};
    text.remove_prefix(bytes.size());
  }
  if (!ids.empty()) ids.pop_back();
  return ids;
}

void TokenTrie::build() {
  for (int32_t token = 0; token < n_vocab(); ++token)
    if (!bytes_of(token).empty()) tokens_.push_back(token);
  has_bytes_.assign((static_cast<size_t>(n_vocab()) + 63) / 64, 0);
  for (const int32_t token : tokens_)
    has_bytes_[static_cast<size_t>(token) / 64] |= uint64_t{1} << (static_cast<size_t>(token) % 64);
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
    add_signs(path, bytes);
    before = bytes;
  }
  for (const uint32_t node : path) nodes_[node].after = static_cast<uint32_t>(nodes_.size());
  const auto end = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back(
      {.after = end, .tokens_begin = static_cast<uint32_t>(tokens_.size()), .byte = 0, .depth = 0});
}

void TokenTrie::add_signs(std::span<const uint32_t> path, std::string_view bytes) {
  uint64_t signs = 0;
  uint8_t n_chars = 0;
  // A character that the token begins without ending it counts: whoever takes all characters takes its
  // beginning.
  const size_t unfinished = bytes.size() - static_cast<size_t>(n_unfinished_utf8(bytes));
  for (size_t i = bytes.size(); i-- > 0;) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    const bool goes_on = (byte & 0xc0) == 0x80;  // a character that began before
    if (!goes_on) ++n_chars;
    signs |= byte < 0x80 ? kSigns[byte] : kBeyondAscii;
    const bool is_broken = goes_on || (byte >= 0x80 && i != unfinished && !next_utf8(bytes, i).is_valid);
    Node& node = nodes_[path[i]];
    node.n_chars = std::max(node.n_chars, n_chars);
    node.signs |= signs | (is_broken ? kBrokenChars : 0);
    if (is_broken && !goes_on) signs |= kBrokenChars;
  }
}

}  // namespace millrace
