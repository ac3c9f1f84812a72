// Any bytes as a grammar: a compiled one with which some tokens are drawn, or an Error, in bounded time and
// memory. The first byte chooses how the grammar is written.
#include <bit>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "grammar/gbnf.h"
#include "grammar/grammar.h"
#include "grammar/json_schema.h"
#include "grammar/lark.h"
#include "grammar/regex.h"
#include "grammar/testing/list_tokenizer.h"

namespace {

using namespace millrace;

constexpr GrammarLimits kLimits{.max_nodes = 20'000, .max_states = 20'000, .max_edges = 200'000};

Rules rules_of(uint8_t kind, std::string_view text) {
  if (kind % 4 == 0) return parse_gbnf(text, kLimits);
  if (kind % 4 == 1) return parse_lark(text, kLimits);
  Rules rules(kLimits);
  rules.root = rules.declare("root");
  if (kind % 4 == 2) {
    rules.define(rules.root, regex(rules, text, Matched::whole, Spelling::plain));
  } else {
    const Json schema = Json::parse(text, "the schema", ErrorKind::usage);
    rules.define(rules.root, json_schema(rules, schema, "the schema"));
  }
  return rules;
}

// Some allowed token, a different one at each step; -1 where there is none.
int32_t choose(const TokenMask& mask, size_t step) {
  for (size_t i = 0; i < mask.size(); ++i) {
    const size_t word = (i + step) % mask.size();
    if (mask[word] != 0) return static_cast<int32_t>(word * 64) + std::countr_zero(mask[word]);
  }
  return -1;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokens =
      std::make_shared<const TokenTrie>(ListTokenizer::of_bytes({"ab", "\"}", "\",", "true", "<end>"}));
  if (size == 0) return 0;
  try {
    const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
    const auto grammar =
        std::make_shared<const Grammar>(rules_of(data[0], text), tokens, Grammar::Options{.prepare_s = 0.0});
    GrammarMatcher matcher(grammar);
    TokenMask mask;
    for (size_t step = 0; step < 40 && !matcher.is_finished(); ++step) {
      matcher.fill(mask);
      const int32_t token = choose(mask, step);
      // All bytes are tokens: a grammar never leads to where nothing can come.
      if (token < 0 && !matcher.is_complete()) __builtin_trap();
      if (token < 0) break;
      if (!matcher.accept(token)) __builtin_trap();
    }
  } catch (const Error&) {
  }
  return 0;
}
