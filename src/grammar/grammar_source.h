// A grammar as a client writes it, and compiled ones kept for those who write the same again.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/grammar.h"

namespace millrace {

struct GrammarSource {
  enum class Kind {
    json_schema,  // the schema
    json_object,  // any object; no text
    regex,        // of the whole answer
    gbnf,
    lark,
    choice,  // texts, one of which the answer is
  };
  Kind kind;
  std::string text;                  // of all kinds but choice
  std::vector<std::string> choices;  // of that
};

// GBNF where the text has its sign of definition, else Lark.
GrammarSource grammar_text(std::string text);

// Equal for equal sources.
std::string key_of(const GrammarSource& source);

// Throws Error(usage) in one sentence.
Rules rules_of(const GrammarSource& source);

// Any thread may use it.
class GrammarCache {
 public:
  // The tokenizer must outlive the cache and every grammar of it. `n_vocab`: of the model.
  GrammarCache(const Tokenizer& tokenizer, int32_t n_vocab, size_t max_grammars = 64);

  // Compiles on the caller's thread where it is not known. Throws as rules_of() and Grammar do.
  std::shared_ptr<const Grammar> get(const GrammarSource& source);
  // The same for rules that were made otherwise; equal keys must mean equal rules.
  template <class MakeRules>
  std::shared_ptr<const Grammar> get(const std::string& key, MakeRules&& make_rules) {
    if (auto known = find(key)) return known;
    return keep(key, std::make_shared<const Grammar>(make_rules(), tokens()));
  }

  // The trie of the vocabulary, which takes some tens of milliseconds when it is asked for first.
  const std::shared_ptr<const TokenTrie>& tokens();

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Grammar> grammar;
  };
  std::shared_ptr<const Grammar> find(const std::string& key);
  std::shared_ptr<const Grammar> keep(const std::string& key, std::shared_ptr<const Grammar> grammar);

  const Tokenizer& tokenizer_;
  int32_t n_vocab_;
  std::once_flag has_tokens_;
  std::shared_ptr<const TokenTrie> tokens_;
  size_t max_grammars_;
  std::mutex mutex_;
  std::list<Entry> entries_;  // the one used last in front
};

}  // namespace millrace
