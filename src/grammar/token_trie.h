// The tokens of a vocabulary as a tree of their bytes, for walks that try all of them at once.
//
//   nodes, each before its children (depth first):   a  ab  abc  b  ba
//   `after`, the node past what begins with a node:  3   3    3  5   5
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace millrace {

// One bit a token of the vocabulary, the lowest bit first.
using TokenMask = std::vector<uint64_t>;

// The tokens made of some kinds of characters (signs.h) only, and what the others go on with behind such
// ones: a text that goes on by such characters, whatever their order, need not try each of them.
struct TokensOfSigns {
  static constexpr size_t kMaxChars = 32;  // longer ones are among the others, from their first byte on

  uint64_t signs = 0;
  uint64_t exits = 0;  // of the others those are here whose first character of other kinds is of these
  std::shared_ptr<const std::vector<TokenMask>> up_to;  // [n]: of at most n characters
  struct Other {
    uint32_t node;   // of the trie
    uint32_t after;  // of `others`: the first one that is not below it
    uint8_t byte;
    uint8_t depth;    // 1: it begins the first character of other kinds
    uint8_t n_chars;  // of these kinds before that one
  };
  std::vector<Other> others;
};

// const after it is made; any thread may read it.
class TokenTrie {
 public:
  // Control tokens are there under special_token_bytes(); what no text can hold (bytes that are never in
  // UTF-8) or what is longer than kMaxTokenBytes is left out. End tokens are ordinary control tokens here.
  // `n_vocab`: of the model, which may have more logits than the tokenizer has tokens; 0: the tokenizer's.
  // `tokenizer` must outlive the trie.
  explicit TokenTrie(const Tokenizer& tokenizer, int32_t n_vocab = 0);

  struct Node {
    uint32_t after;
    uint32_t tokens_begin;  // of tokens(); those of the node end where those of the next node begin
    uint8_t byte;
    uint8_t depth;  // bytes from the root to here, at least 1
    // Of all that the node begins, its own byte included: characters of the longest, and which kinds
    // (signs.h).
    uint8_t n_chars = 0;
    uint64_t signs = 0;
  };
  std::span<const Node> nodes() const { return {nodes_.data(), nodes_.size() - 1}; }
  // Of the nodes [begin, end), which lie side by side.
  std::span<const int32_t> tokens(size_t begin, size_t end) const {
    const uint32_t first = nodes_[begin].tokens_begin;
    return std::span(tokens_).subspan(first, nodes_[end].tokens_begin - first);
  }
  std::span<const int32_t> tokens(size_t node) const { return tokens(node, node + 1); }

  // Made when they are asked for first (some 2 ms), and kept while no others are asked for more lately.
  std::shared_ptr<const TokensOfSigns> of_signs(uint64_t signs, uint64_t exits) const;

  // Tokens that spell the beginning of `text`, as the tokenizer cuts it, all but the last one, which might be
  // another one if more text followed. None where the tokenizer spells something else.
  std::vector<int32_t> spell(std::string_view text) const;
  // One bit for each token of the vocabulary: whether it is in the trie.
  const TokenMask& has_bytes() const { return has_bytes_; }
  int32_t n_vocab() const { return static_cast<int32_t>(bytes_begin_.size() - 1); }
  // What a token adds, as the trie has it; empty for one that is left out.
  std::string_view bytes_of(int32_t token) const {
    const size_t begin = bytes_begin_[static_cast<size_t>(token)];
    return std::string_view(bytes_).substr(begin, bytes_begin_[static_cast<size_t>(token) + 1] - begin);
  }

 private:
  struct MadeOf {
    uint64_t signs = 0;
    uint8_t n_chars = 0;
  };
  void build();
  // To the nodes of the path, which spell the bytes; gives what all of them are made of.
  MadeOf add_signs(std::span<const uint32_t> path, std::string_view bytes);
  TokensOfSigns find_of_signs(uint64_t signs, uint64_t exits) const;
  std::vector<TokenMask> masks_of_signs(uint64_t signs) const;
  bool is_looked_up(uint32_t i, uint64_t signs) const {  // of tokens_
    return (made_of_[i].signs & ~signs) == 0 && made_of_[i].n_chars <= TokensOfSigns::kMaxChars;
  }
  // The first character of the token that is of other kinds: where, behind how many, and which these are.
  struct Exit {
    size_t at;
    uint8_t n_chars;
    uint64_t signs;
  };
  static Exit exit_of(std::string_view bytes, uint64_t signs);

  const Tokenizer& tokenizer_;
  std::string bytes_;  // of all tokens, one after another
  std::vector<uint32_t> bytes_begin_;
  std::vector<Node> nodes_;      // and one behind the last
  std::vector<int32_t> tokens_;  // in the order of the nodes
  std::vector<MadeOf> made_of_;  // each of tokens_
  TokenMask has_bytes_;
  mutable std::mutex mutex_;                                            // of what follows
  mutable std::vector<std::shared_ptr<const TokensOfSigns>> of_signs_;  // asked for last first
};

}  // namespace millrace
