// Holds one answer to a grammar: which tokens may be drawn, and which need not be drawn since nothing else
// may come.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "grammar/grammar.h"

namespace millrace {

// One per answer, used by the engine's thread.
class Constraint {
 public:
  // `end_tokens`, which must outlive the constraint, may be drawn where the answer may end.
  Constraint(std::shared_ptr<const Grammar> grammar, std::span<const int32_t> end_tokens)
      : matcher_(std::move(grammar)), end_tokens_(end_tokens) {}

  // Why the answer cannot go on, in a sentence: the grammar is too ambiguous to be followed in time. Empty
  // else; to be looked at after allow() and accept().
  const std::string& fault() const { return fault_; }

  // One bit a token of the vocabulary.
  void allow(std::vector<uint64_t>& allowed);
  // Whether these tokens may come next.
  bool allows(std::span<const int32_t> tokens) const;
  // The token, which was allowed, is part of the answer now.
  void accept(int32_t token);
  // The answer is complete, and nothing but its end may come.
  bool is_finished() const { return matcher_.is_finished(); }
  // Tokens that spell what must come next whatever is drawn. The last ones of it are left to the model, which
  // may join them with what follows.
  std::vector<int32_t> forced();

 private:
  GrammarMatcher matcher_;
  std::span<const int32_t> end_tokens_;
  std::string fault_;
};

}  // namespace millrace
