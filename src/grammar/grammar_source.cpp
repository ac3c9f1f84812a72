#include "grammar/grammar_source.h"

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/lark.h"
#include "grammar/regex.h"

namespace millrace {
namespace {

Rules::Node choice_of(Rules& rules, const std::vector<std::string>& texts) {
  if (texts.empty()) fail(ErrorKind::usage, "there is nothing to choose from");
  std::vector<Rules::Node> nodes;
  for (const std::string& text : texts) {
    if (!is_utf8(text)) fail(ErrorKind::usage, "a text to choose is not valid UTF-8: {}", printable(text));
    nodes.push_back(rules.bytes(text));
  }
  return rules.choice(std::move(nodes));
}

}  // namespace

std::string key_of(const GrammarSource& source) {
  std::string key(1, static_cast<char>('0' + static_cast<int>(source.kind)));
  key += source.text;
  for (const std::string& text : source.choices) key += std::to_string(text.size()) + ':' + text;
  return key;
}

GrammarSource grammar_text(std::string text) {
  const bool is_gbnf = text.find("::=") != std::string::npos;
  return {.kind = is_gbnf ? GrammarSource::Kind::gbnf : GrammarSource::Kind::lark, .text = std::move(text)};
}

Rules rules_of(const GrammarSource& source) {
  using Kind = GrammarSource::Kind;
  if (source.kind == Kind::gbnf) return parse_gbnf(source.text);
  if (source.kind == Kind::lark) return parse_lark(source.text);
  Rules rules;
  rules.root = rules.declare("root");
  const auto node = [&] {
    switch (source.kind) {
      case Kind::json_schema: {
        if (source.text.size() > rules.limits().max_source_bytes)
          fail(ErrorKind::usage, "the JSON schema has {} bytes, expected at most {}", source.text.size(),
               rules.limits().max_source_bytes);
        return json_schema(rules, Json::parse(source.text, "the JSON schema", ErrorKind::usage),
                           "the JSON schema");
      }
      case Kind::json_object:
        return any_json_object(rules);
      case Kind::regex:
        return regex(rules, source.text, Matched::whole, Spelling::plain);
      default:
        return choice_of(rules, source.choices);
    }
  };
  rules.define(rules.root, node());
  return rules;
}

GrammarCache::GrammarCache(const Tokenizer& tokenizer, int32_t n_vocab, size_t max_grammars)
    : tokenizer_(tokenizer), n_vocab_(n_vocab), max_grammars_(max_grammars) {}

const std::shared_ptr<const TokenTrie>& GrammarCache::tokens() {
  std::call_once(has_tokens_, [this] { tokens_ = std::make_shared<const TokenTrie>(tokenizer_, n_vocab_); });
  return tokens_;
}

std::shared_ptr<const Grammar> GrammarCache::get(const GrammarSource& source) {
  return get(key_of(source), [&] { return rules_of(source); });
}

std::shared_ptr<const Grammar> GrammarCache::find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto at = std::ranges::find(entries_, key, &Entry::key);
  if (at == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, at);
  return at->grammar;
}

std::shared_ptr<const Grammar> GrammarCache::keep(const std::string& key,
                                                  std::shared_ptr<const Grammar> grammar) {
  const std::lock_guard lock(mutex_);
  entries_.push_front({key, grammar});
  if (entries_.size() > max_grammars_) entries_.pop_back();
  return grammar;
}

}  // namespace millrace
