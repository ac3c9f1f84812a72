// What holding an answer to a grammar costs: the time to compile it, and for each token the time of the mask.
//   grammar_bench TOKENIZER CASES     a tokenizer.json, and a file of
//   {"name","kind","source","answers":[text]},
//                                     kind being schema, regex, gbnf or lark
// The answers are read token by token, as a model would write them, first with what compiling has prepared
// (cold), then again (warm). Prints one line of JSON for each case, with the time of every mask;
// grammar_vs_others.py sets it beside xgrammar and llguidance.
#include <fmt/core.h>

#include <ctime>

#include "base/file.h"
#include "grammar/gbnf.h"
#include "grammar/grammar.h"
#include "grammar/json_schema.h"
#include "grammar/lark.h"
#include "grammar/regex.h"
#include "text/tokenizer.h"

namespace millrace {
namespace {

// Of this thread on a processor: what other programs take does not count.
double us_now() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) / 1e3;
}
double us_since(double begin) { return us_now() - begin; }

Rules rules_of(const std::string& kind, const Json& source) {
  if (kind == "gbnf") return parse_gbnf(source.as_string());
  if (kind == "lark") return parse_lark(source.as_string());
  Rules rules;
  rules.root = rules.declare("root");
  rules.define(rules.root, kind == "regex" ? regex(rules, source.as_string(), Matched::whole, Spelling::plain)
                                           : json_schema(rules, source, "the schema"));
  return rules;
}

// Appends the time of each mask.
void read_answer(const std::shared_ptr<const Grammar>& grammar, const std::vector<int32_t>& answer,
                 std::vector<double>& mask_us, std::vector<double>& accept_us) {
  GrammarMatcher matcher(grammar);
  TokenMask mask;
  for (const int32_t token : answer) {
    auto begin = us_now();
    matcher.fill(mask);
    mask_us.push_back(us_since(begin));
    begin = us_now();
    if (!matcher.accept(token)) fail(ErrorKind::runtime, "an answer does not match its grammar");
    accept_us.push_back(us_since(begin));
  }
  if (!matcher.is_complete()) fail(ErrorKind::runtime, "an answer ends too early for its grammar");
}

Json listed(const std::vector<double>& us) {
  Json::Array out;
  for (const double t : us) out.emplace_back(t);
  return out;
}

void measure(const Json& c, const Tokenizer& tokenizer, const std::shared_ptr<const TokenTrie>& tokens) {
  auto begin = us_now();
  const auto grammar =
      std::make_shared<const Grammar>(rules_of(c.at("kind").as_string(), c.at("source")), tokens);
  const double compile_ms = us_since(begin) / 1e3;
  std::vector<double> cold, warm, accept;
  std::vector<std::vector<int32_t>> answers;
  for (const Json& answer : c.at("answers").as_array())
    answers.push_back(tokenizer.encode(answer.as_string(), {.add_special = false}));
  for (const auto& answer : answers) read_answer(grammar, answer, cold, accept);
  for (const auto& answer : answers) read_answer(grammar, answer, warm, accept);
  Json out;
  out["name"] = c.at("name");
  out["compile_ms"] = compile_ms;
  out["n_states"] = grammar->n_states();
  out["n_tokens"] = cold.size();
  out["cold_us"] = listed(cold);
  out["warm_us"] = listed(warm);
  out["accept_us"] = listed(accept);
  fmt::print("{}\n", out.dump());
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  using namespace millrace;
  if (argc != 3) {
    fmt::print(stderr, "usage: grammar_bench TOKENIZER CASES\n");
    return 2;
  }
  try {
    const Json json = Json::parse(read_file(argv[1], size_t{1} << 30), "the tokenizer");
    const auto tokenizer = load_tokenizer_json(json, Json());
    const auto begin = us_now();
    const auto tokens = std::make_shared<const TokenTrie>(*tokenizer);
    fmt::print(stderr, "trie of {} tokens in {:.0f} ms, {} nodes\n", tokens->n_vocab(), us_since(begin) / 1e3,
               tokens->nodes().size());
    const Json cases = Json::parse(read_file(argv[2], size_t{1} << 28), "the cases");
    for (const Json& c : cases.as_array()) measure(c, *tokenizer, tokens);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
