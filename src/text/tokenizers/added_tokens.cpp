#include "text/tokenizers/added_tokens.h"

#include "base/error.h"
#include "text/unicode.h"

namespace millrace {
namespace {

// At each place of the text so many bytes may be compared: the bound that keeps a hostile vocabulary linear.
constexpr size_t kMaxBytes = 512;

std::vector<ByteTrie::Entry> entries_of(const std::vector<AddedToken>& tokens) {
  std::vector<ByteTrie::Entry> entries;
  entries.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    // A text that is not valid UTF-8 is in no valid text, unless it cut a character in two.
    if (is_valid_utf8(tokens[i].text)) entries.emplace_back(tokens[i].text, static_cast<int32_t>(i));
  }
  return entries;
}

// Where the character before `at` begins.
size_t step_back(std::string_view text, size_t at) {
  --at;
  while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80) --at;
  return at;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), trie_(entries_of(tokens_)) {
  for (const AddedToken& token : tokens_) {
    if (token.text.size() <= kMaxBytes) continue;
    fail(ErrorKind::bad_model, "the added token {} has {} bytes, the most supported are {}", token.id,
         token.text.size(), kMaxBytes);
  }
}

bool AddedTokens::is_apart(std::string_view text, size_t begin, size_t end) const {
  if (begin > 0 && is_word(next_utf8(text, step_back(text, begin)).code_point)) return false;
  return end >= text.size() || !is_word(next_utf8(text, end).code_point);
}

void AddedTokens::add_control_begins(std::string_view text, std::vector<size_t>& begins) const {
  for (size_t at = 0; at < text.size(); ++at) {
    if (!trie_.begins_with(text[at])) continue;
    bool is_control = false;
    const bool is_open = trie_.walk(text, at, [&](size_t, int32_t token) {
      is_control = is_control || tokens_[static_cast<size_t>(token)].is_control;
    });
    if (is_control || is_open) begins.push_back(at);
  }
}

AddedTokens::Found AddedTokens::find(std::string_view text, size_t from, const Control& control) const {
  for (size_t at = from; at < text.size(); ++at) {
    if (!trie_.begins_with(text[at])) continue;
    Found found{at, at};
    trie_.walk(text, at, [&](size_t n_bytes, int32_t token) {
      if (tokens_[static_cast<size_t>(token)].is_control && !control.allows(at, at + n_bytes)) return;
      found.end = at + n_bytes;
      found.token = token;
    });
    if (found.token < 0) continue;
    const AddedToken& token = tokens_[static_cast<size_t>(found.token)];
    if (token.is_word && !is_apart(text, found.begin, found.end)) {
      at = found.end - 1;  // as the original: the search goes on behind it
      continue;
    }
    if (token.takes_left) {
      while (found.begin > from) {
        const size_t before = step_back(text, found.begin);
        if (!is_white_space(next_utf8(text, before).code_point)) break;
        found.begin = before;
      }
    }
    if (token.takes_right) {
      while (found.end < text.size()) {
        const Utf8Char next = next_utf8(text, found.end);
        if (!is_white_space(next.code_point)) break;
        found.end += static_cast<size_t>(next.n_bytes);
      }
    }
    return found;
  }
  return {text.size(), text.size()};
}

}  // namespace millrace
