// Tokens that are found in the text as a whole, before anything else looks at it: control tokens (end of
// turn) and tokens that somebody added to a finished vocabulary.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizers/byte_trie.h"

namespace millrace {

struct AddedToken {
  int32_t id = 0;
  std::string text;
  bool is_control = false;   // found only where control tokens are asked for
  bool takes_left = false;   // white space before it goes with it
  bool takes_right = false;  // and after it
  bool is_word = false;      // not found next to a letter, digit or underscore
};

class AddedTokens {
 public:
  AddedTokens() = default;
  // Throws Error(bad_model) for a text that is too long to look for.
  explicit AddedTokens(std::vector<AddedToken> tokens);

  bool is_empty() const { return trie_.is_empty(); }

  // Which control tokens are found: none, or all but those that would cover a byte of `literal`.
  struct Control {
    bool is_wanted = false;
    std::span<const size_t> literal;  // offsets in the text, ascending

    bool allows(size_t begin, size_t end) const {
      if (!is_wanted) return false;
      const auto first = std::ranges::lower_bound(literal, begin);
      return first == literal.end() || *first >= end;
    }
  };

  // Appends where the text of a control token begins in `text`, or might begin if more text followed.
  void add_control_begins(std::string_view text, std::vector<size_t>& begins) const;

  struct Part {
    std::string_view text;
    int32_t id = -1;  // of the token that this text is; -1: text between tokens
  };
  // Gives the parts of `text` in order: the leftmost token, of those that begin there the longest, then on.
  template <class Give>
  void each_part(std::string_view text, const Control& control, Give&& give) const {
    size_t at = 0;
    while (at < text.size()) {
      const Found found = find(text, at, control);
      if (found.begin > at) give(Part{text.substr(at, found.begin - at)});
      if (found.token < 0) return;
      give(Part{text.substr(found.begin, found.end - found.begin),
                tokens_[static_cast<size_t>(found.token)].id});
      at = found.end;
    }
  }

 private:
  struct Found {
    size_t begin, end;
    int32_t token = -1;  // index in tokens_; -1: none, and begin is the end of the text
  };
  Found find(std::string_view text, size_t from, const Control& control) const;
  bool is_apart(std::string_view text, size_t begin, size_t end) const;

  std::vector<AddedToken> tokens_;
  ByteTrie trie_;  // to indices in tokens_
};

}  // namespace millrace
