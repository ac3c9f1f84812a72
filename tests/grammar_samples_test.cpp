// Models of random weights under grammars: whatever is drawn, at a high temperature, is valid. For the long
// run, 15,120 samples of which 12,096 and more end by themselves: --gtest_repeat=35 --gtest_shuffle, which
// takes other seeds each time.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <regex>

#include "backend/cpu/cpu.h"
#include "engine/engine.h"
#include "grammar/grammar_source.h"
#include "grammar/testing/list_tokenizer.h"
#include "grammar/testing/validator.h"
#include "model/testing/tiny_models.h"

namespace millrace {
namespace {

using Kind = GrammarSource::Kind;

// Bytes, some pieces as vocabularies have them, and an end.
const ListTokenizer& tokenizer() {
  static const ListTokenizer bytes = ListTokenizer::of_bytes(
      {"\"",    "\":",  "\",",  "\"}",   "\": \"", "{\"",   "}}",    "[]",   "[[",   "],", "true",
       "false", "null", "name", "na",    "12",     "-1",    "0.5",   "\n  ", "  ",   "é",  "日本",
       "abc",   "ab",   "\\\"", "\\u00", "e+",     "2024-", "value", "id",   "<end>"});
  return bytes;
}

// A tiny model with that vocabulary.
std::unique_ptr<testing::MemoryCheckpoint> checkpoint_of(std::string_view name) {
  for (testing::TinyModel& tiny : testing::tiny_models()) {
    if (tiny.name != name) continue;
    const bool is_tied = tiny.checkpoint->find("output.weight") == nullptr;
    for (const char* tensor : {"token_embd.weight", "output.weight"}) {
      tiny.checkpoint->remove(tensor);
      if (std::string_view(tensor) != "output.weight" || !is_tied)
        tiny.checkpoint->add_random(tensor, {tokenizer().n_vocab(), testing::kTinyHidden});
    }
    return std::move(tiny.checkpoint);
  }
  ADD_FAILURE() << "there is no tiny model " << name;
  return nullptr;
}

struct Sample {
  std::string text;
  FinishReason reason;
  std::vector<int32_t> tokens;
};

class Sampler {
 public:
  explicit Sampler(std::string_view model, int64_t max_sequences = 8)
      : checkpoint_(checkpoint_of(model)),
        model_(load_model(*checkpoint_)),
        backend_(make_cpu_backend(1)),
        engine_(*model_, *backend_, {.n_ctx = 256, .n_kv_positions = 4096, .max_sequences = max_sequences}),
        grammars_(tokenizer(), tokenizer().n_vocab()) {}

  Engine::Ticket submit(const GrammarSource& source, uint64_t seed, int n_logprobs = -1) {
    Request request;
    request.prompt = {1, 2, 3};
    request.sampling = {.temperature = 1.5f, .seed = seed};
    // Random weights never tire: what closes is likelier.
    for (const char* piece : {"\"", "\"}", "}", "]", "<end>"})
      request.sampling.logit_bias.emplace_back(*tokenizer().find_piece(piece), 4.0f);
    request.max_tokens = 220;
    request.end_tokens = {tokenizer().n_vocab() - 1};
    request.grammar = grammars_.get(source);
    request.n_logprobs = n_logprobs;
    const Engine::Submitted submitted = engine_.submit(std::move(request));
    EXPECT_TRUE(submitted.ticket) << submitted.refusal;
    return *submitted.ticket;
  }

  static Sample collect(const Engine::Ticket& ticket) {
    Sample sample;
    while (true) {
      const auto event =
          ticket.events->pop_until(std::chrono::steady_clock::now() + std::chrono::seconds(60));
      if (!event) {
        ADD_FAILURE() << "an answer does not end";
        return sample;
      }
      EXPECT_EQ(event->error, "");
      if (event->token) {
        sample.tokens.push_back(*event->token);
        sample.text += tokenizer().token_bytes(*event->token, false);
      }
      if (!event->finish_reason) continue;
      sample.reason = *event->finish_reason;
      return sample;
    }
  }

 private:
  std::unique_ptr<testing::MemoryCheckpoint> checkpoint_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Backend> backend_;
  Engine engine_;
  GrammarCache grammars_;
};

constexpr std::string_view kSchemas[] = {
    R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","items":{"type":"string","maxLength":5},"maxItems":3}},"required":["name","age"],"additionalProperties":false})",
    R"({"type":"object","properties":{"city":{"type":"string","minLength":1,"maxLength":20},"unit":{"enum":["celsius","fahrenheit"]}},"required":["city"]})",
    R"({"$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"],"additionalProperties":false}},"$ref":"#/$defs/n"})",
    R"({"type":"array","items":{"type":"number","minimum":-2.5,"exclusiveMaximum":10.75},"minItems":2,"maxItems":6})",
    R"({"type":"array","items":{"type":"integer","multipleOf":3,"minimum":-30,"maximum":300}})",
    R"({"type":"number","multipleOf":0.05,"minimum":0,"maximum":100})",
    R"({"type":"string","pattern":"^[a-c]+\\d{2,4}$"})",
    R"({"type":"string","pattern":"x[a-z]y","maxLength":12})",
    R"({"type":"string","minLength":3,"maxLength":6})",
    R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string","maxLength":4}],"items":{"type":"boolean"},"minItems":1,"maxItems":4})",
    R"({"type":"object","additionalProperties":{"type":"integer"},"maxProperties":3})",
    R"({"type":"object","properties":{"ab":{"type":"integer"}},"required":["ab"],"additionalProperties":{"type":"boolean"}})",
    R"({"type":"object","patternProperties":{"^i":{"type":"integer"},"s$":{"type":"string","maxLength":4}},"additionalProperties":{"type":"null"}})",
    R"({"type":"object","propertyNames":{"pattern":"^[a-z]{1,4}$"},"additionalProperties":{"type":"integer"},"minProperties":1})",
    R"({"allOf":[{"type":"object","properties":{"a":{"type":"number"}},"required":["a"]},{"properties":{"a":{"type":"integer","minimum":3},"b":{"const":{"x":[1,null]}}},"required":["b"]}]})",
    R"({"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"v":{"type":"integer"}},"required":["k","v"]},{"type":"object","properties":{"k":{"const":"b"},"v":{"type":"string"}},"required":["k","v"]}]})",
    R"({"type":"object","properties":{"x":{"type":"integer"},"y":{"type":"null"}},"anyOf":[{"required":["x"]},{"required":["y"]}]})",
    R"({"type":["string","null","integer"],"maxLength":4,"minimum":-3})",
    R"({"type":"object","properties":{"a":{"type":"boolean"},"b":{"type":"boolean"},"c":{"type":"boolean"},"d":{"type":"boolean"}},"required":["c"],"maxProperties":4})",
    R"({"type":"string","format":"date"})",
    R"({"type":"string","format":"uuid"})",
    R"({"type":"string","format":"ipv4"})",
    R"({"enum":["a","ab","abc",1,null,{"k":[true]}]})",
    R"({"type":"object","properties":{"q":{"type":"string","nullable":true,"maxLength":3}},"required":["q"]})",
    R"({"type":"object"})",
    R"({"type":"array","maxItems":4})",
    R"(true)",
    R"({"type":"object","properties":{"line\nbreak":{"type":"integer"},"quo\"te":{"type":"string","maxLength":2},"é":{"const":"日本"}},"required":["line\nbreak","é"]})",
};

struct Held {
  std::string name;
  GrammarSource source;
  std::function<bool(const std::string&)> is_valid;
};

std::vector<Held> all_kinds() {
  std::vector<Held> out;
  for (const std::string_view schema : kSchemas) {
    out.push_back({std::string(schema),
                   {.kind = Kind::json_schema, .text = std::string(schema)},
                   [schema = Json::parse(schema, "schema")](const std::string& text) {
                     return Validator(schema).is_valid(Json::parse(text, "the answer"));
                   }});
  }
  for (const char* pattern :
       {"(a|bc){2,5}d?", "[A-F0-9]{4}(-[a-z]+)*", "-?\\d+(\\.\\d{1,3})?", "\\w{3,9}@\\w+\\.(com|org)"}) {
    out.push_back({pattern,
                   {.kind = Kind::regex, .text = pattern},
                   [expected = std::regex(pattern)](const std::string& text) {
                     return std::regex_match(text, expected);
                   }});
  }
  const auto is_balanced = [](const std::string& text) {
    int depth = 0;
    for (const char c : text) {
      depth += c == '(' ? 1 : c == ')' ? -1 : 0;
      if (depth < 0) return false;
    }
    return depth == 0 && std::regex_match(text, std::regex("[()a-c+ ]+"));
  };
  out.push_back({"gbnf",
                 {.kind = Kind::gbnf, .text = "root ::= t | root \"+\" t\nt ::= [a-c] | \"(\" root \")\""},
                 is_balanced});
  out.push_back({"lark",
                 {.kind = Kind::lark,
                  .text = "start: t | start \"+\" t\nt: /[a-c]/ | \"(\" start \")\"\n%ignore \" \""},
                 is_balanced});
  out.push_back({"choice",
                 {.kind = Kind::choice, .text = {}, .choices = {"yes", "no", "no way"}},
                 [](const std::string& text) { return text == "yes" || text == "no" || text == "no way"; }});
  out.push_back({"object", {.kind = Kind::json_object}, [](const std::string& text) {
                   return Json::parse(text, "the answer").is_object();
                 }});
  return out;
}

TEST(GrammarSamples, EveryAnswerIsValid) {
  const std::vector<Held> kinds = all_kinds();
  const auto seed = static_cast<uint64_t>(::testing::UnitTest::GetInstance()->random_seed()) * 1'000'003;
  size_t n_complete = 0, n = 0;
  std::map<std::string, size_t> n_complete_of;
  for (const char* model : {"llama", "gemma3", "gpt-oss"}) {
    Sampler sampler(model);
    for (const Held& held : kinds) {
      SCOPED_TRACE(held.name);
      std::vector<Engine::Ticket> tickets;
      for (uint64_t i = 0; i < 4; ++i) tickets.push_back(sampler.submit(held.source, seed + i));
      for (const Engine::Ticket& ticket : tickets) {
        const Sample sample = Sampler::collect(ticket);
        ++n;
        if (sample.reason != FinishReason::stop) continue;  // cut at its length
        ++n_complete;
        ++n_complete_of[held.name];
        EXPECT_TRUE(held.is_valid(sample.text)) << sample.text;
      }
    }
  }
  EXPECT_GE(n, 400u);
  EXPECT_GE(n_complete * 10, n * 8) << "too few answers end by themselves to say much";
  for (const Held& held : kinds) EXPECT_GT(n_complete_of[held.name], 0u) << held.name;
}

// Forced tokens and neighbours change nothing of what a request gives.
TEST(GrammarSamples, AloneAsInABatch) {
  const std::vector<Held> kinds = all_kinds();
  Sampler together("llama", 8), alone("llama", 1);
  std::vector<Engine::Ticket> tickets;
  for (const Held& held : kinds) tickets.push_back(together.submit(held.source, 7));
  for (size_t i = 0; i < kinds.size(); ++i) {
    const Sample batched = Sampler::collect(tickets[i]),
                 single = Sampler::collect(alone.submit(kinds[i].source, 7));
    EXPECT_EQ(batched.tokens, single.tokens) << kinds[i].name;
  }
}

TEST(GrammarSamples, WhatIsForcedNeedNotBeDrawn) {
  Sampler sampler("llama", 1);
  const GrammarSource long_name{.kind = Kind::choice,
                                .text = {},
                                .choices = {"a very long text that can only be so: first",
                                            "a very long text that can only be so: last"}};
  const Sample sample = Sampler::collect(sampler.submit(long_name, 1));
  EXPECT_EQ(sample.reason, FinishReason::stop);
  EXPECT_TRUE(sample.text == long_name.choices[0] || sample.text == long_name.choices[1]) << sample.text;
}

TEST(GrammarSamples, RefusesAGrammarForAnotherVocabulary) {
  const auto checkpoint = checkpoint_of("llama");
  const auto model = load_model(*checkpoint);
  const auto backend = make_cpu_backend(1);
  Engine engine(*model, *backend, {.n_ctx = 64});
  GrammarCache grammars(tokenizer(), tokenizer().n_vocab() + 1);
  Request request{.prompt = {1}};
  request.grammar = grammars.get({.kind = Kind::regex, .text = "a"});
  EXPECT_NE(engine.submit(request).refusal.find("the grammar is for"), std::string::npos);
}

}  // namespace
}  // namespace millrace
