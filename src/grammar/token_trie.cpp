#include "grammar/token_trie.h"

#include <algorithm>
#include <array>

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
    made_of_.push_back(add_signs(path, bytes));
    before = bytes;
  }
  for (const uint32_t node : path) nodes_[node].after = static_cast<uint32_t>(nodes_.size());
  const auto end = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back(
      {.after = end, .tokens_begin = static_cast<uint32_t>(tokens_.size()), .byte = 0, .depth = 0});
}

TokenTrie::MadeOf TokenTrie::add_signs(std::span<const uint32_t> path, std::string_view bytes) {
  MadeOf made_of;
  auto& [signs, n_chars] = made_of;
  // A character that the token begins without ending it counts: whoever takes all characters takes its
  // beginning.
  const size_t unfinished = bytes.size() - static_cast<size_t>(n_unfinished_utf8(bytes));
  int n_behind = 0;  // bytes behind that go on a character
  for (size_t i = bytes.size(); i-- > 0;) {
    const auto byte = static_cast<uint8_t>(bytes[i]);
    const bool goes_on = (byte & 0xc0) == 0x80;
    signs |= byte < 0x80 ? kSigns[byte] : kBeyondAscii;
    if (!goes_on) {
      ++n_chars;
      const Utf8Char c = next_utf8(bytes, i);
      if (i != unfinished && !(c.is_valid && c.n_bytes == 1 + n_behind)) signs |= kBrokenChars;
    }
    n_behind = goes_on ? n_behind + 1 : 0;
    Node& node = nodes_[path[i]];
    node.n_chars = std::max(node.n_chars, n_chars);
    node.signs |= signs | (goes_on ? kBrokenChars : 0);
  }
  if (n_behind > 0) signs |= kBrokenChars;
  return made_of;
}

std::shared_ptr<const TokensOfSigns> TokenTrie::of_signs(uint64_t signs, uint64_t exits) const {
  constexpr size_t kMaxKept = 32;
  const std::lock_guard lock(mutex_);
  auto at = std::ranges::find_if(
      of_signs_, [&](const auto& known) { return known->signs == signs && known->exits == exits; });
  if (at == of_signs_.end()) {
    TokensOfSigns found = find_of_signs(signs, exits);
    if (of_signs_.size() == kMaxKept) of_signs_.pop_back();
    of_signs_.push_back(std::make_shared<const TokensOfSigns>(std::move(found)));
    at = of_signs_.end() - 1;
  }
  std::rotate(of_signs_.begin(), at, at + 1);
  return of_signs_.front();
}

TokenTrie::Exit TokenTrie::exit_of(std::string_view bytes, uint64_t signs) {
  uint8_t n_chars = 0;
  for (size_t at = 0; at < bytes.size(); ++n_chars) {
    const auto byte = static_cast<uint8_t>(bytes[at]);
    uint64_t own = kBeyondAscii;
    size_t n_bytes = 1;
    if (byte < 0x80) {
      own = kSigns[byte];
    } else {
      const Utf8Char c = next_utf8(bytes, at);
      if (!c.is_valid) own |= kBrokenChars;
      n_bytes = static_cast<size_t>(c.n_bytes);
    }
    if ((own & ~signs) != 0) return {at, n_chars, own & ~signs};
    at += n_bytes;
  }
  return {0, 0, ~uint64_t{0}};  // it is too long to be looked up, and must be tried
}

std::vector<TokenMask> TokenTrie::masks_of_signs(uint64_t signs) const {
  std::vector<TokenMask> up_to(TokensOfSigns::kMaxChars + 1, TokenMask(has_bytes_.size(), 0));
  for (uint32_t i = 0; i < tokens_.size(); ++i) {
    if (!is_looked_up(i, signs)) continue;
    const auto token = static_cast<size_t>(tokens_[i]);
    up_to[made_of_[i].n_chars][token / 64] |= uint64_t{1} << (token % 64);
  }
  for (size_t n = 1; n < up_to.size(); ++n)
    for (size_t w = 0; w < has_bytes_.size(); ++w) up_to[n][w] |= up_to[n - 1][w];
  return up_to;
}

TokensOfSigns TokenTrie::find_of_signs(uint64_t signs, uint64_t exits) const {
  TokensOfSigns out{.signs = signs, .exits = exits, .up_to = nullptr, .others = {}};
  const auto same = std::ranges::find(of_signs_, signs, &TokensOfSigns::signs);
  out.up_to = same != of_signs_.end() ? (*same)->up_to
                                      : std::make_shared<const std::vector<TokenMask>>(masks_of_signs(signs));
  std::vector<uint32_t> path;                    // of `others`, as far as they are those of the token
  std::array<uint32_t, kMaxTokenBytes> nodes{};  // from the root to the node
  const auto close = [&](size_t n_kept) {
    for (; path.size() > n_kept; path.pop_back())
      out.others[path.back()].after = static_cast<uint32_t>(out.others.size());
  };
  constexpr size_t kNone = kMaxTokenBytes + 1;
  size_t exit_depth = kNone;  // of the byte from which on the path may be of other kinds
  for (uint32_t node = 0; node + 1 < nodes_.size(); ++node) {
    const Node& begun = nodes_[node];
    const size_t depth = begun.depth;
    if (depth <= exit_depth) exit_depth = kNone;
    if (exit_depth == kNone) {
      const uint64_t own = begun.byte < 0x80 ? kSigns[begun.byte] : kBeyondAscii | kBrokenChars;
      const bool is_exit = (own & ~signs) != 0;  // or may be one
      const uint64_t wanted = exits & ~signs & (is_exit ? own : begun.signs);
      if (wanted == 0 && begun.n_chars + depth <= TokensOfSigns::kMaxChars) {
        node = begun.after - 1;  // no token below has one of the exits, and none is too long
        continue;
      }
      if (is_exit) exit_depth = depth;
    }
    nodes[depth - 1] = node;
    for (uint32_t i = nodes_[node].tokens_begin; i < nodes_[node + 1].tokens_begin; ++i) {
      if (is_looked_up(i, signs)) continue;
      const Exit exit = exit_of(bytes_of(tokens_[i]), signs);
      if ((exit.signs & exits) == 0) continue;
      size_t n_shared = 0;
      while (n_shared < path.size() && exit.at + n_shared < depth &&
             out.others[path[n_shared]].node == nodes[exit.at + n_shared])
        ++n_shared;
      close(n_shared);
      while (exit.at + path.size() < depth) {
        const uint32_t at = nodes[exit.at + path.size()];
        path.push_back(static_cast<uint32_t>(out.others.size()));
        out.others.push_back({at, 0, nodes_[at].byte, static_cast<uint8_t>(path.size()), exit.n_chars});
      }
    }
  }
  close(0);
  return out;
}

}  // namespace millrace
