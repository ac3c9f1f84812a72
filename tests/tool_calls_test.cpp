// Tokens drawn at random under the grammar of each family's calls: whatever comes, the parser of that family
// reads calls whose arguments the tool's schema accepts.
#include <gtest/gtest.h>

#include <random>
#include <regex>

#include "base/error.h"
#include "grammar/answer_grammar.h"
#include "grammar/grammar.h"
#include "grammar/testing/list_tokenizer.h"
#include "grammar/testing/validator.h"
#include "text/output/output_parser.h"

namespace millrace {
namespace {

using Kind = OutputEvent::Kind;

const Json& tools() {
  static const Json kTools = Json::parse(
      R"([{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"unit":{"type":"string","enum":["celsius","fahrenheit"]}},"required":["city"]}}},
          {"type":"function","function":{"name":"grep","parameters":{"type":"object","properties":{"paths":{"type":"array","items":{"type":"string"},"minItems":1,"maxItems":3},"limit":{"type":"integer","minimum":1,"maximum":99}},"required":["paths"],"additionalProperties":false}}},
          {"type":"function","function":{"name":"note","parameters":{"type":"object","properties":{"of":{"type":"object","properties":{"k":{"type":"string","maxLength":3},"on":{"type":"boolean"}},"required":["k"],"additionalProperties":{"type":"null"}},"n":{"enum":[true,null,["a",{"b":"c"}]]}},"required":["of"]}}}])",
      "tools");
  return kTools;
}

// Bytes, and what of the syntax's signs are control tokens.
ListTokenizer tokenizer_of(const ToolSyntax& syntax) {
  std::string signs;
  const auto add = [&](std::string_view text) { signs += text; };
  for (const auto* list : {&syntax.begins, &syntax.dropped, &syntax.reasoning_begins, &syntax.reasoning_ends})
    for (const std::string_view text : *list) add(text);
  add(syntax.end);
  add(syntax.name_end);
  add(syntax.value_begin);
  signs += "<|constrain|>";
  std::vector<std::string> pieces{"\": ", "\", \"", "true", "ab"};
  // The tags of members without their last sign, which are text.
  for (const std::string_view tag : {syntax.value_end, syntax.end})
    if (tag.size() > 2 && tag.find("|") == std::string_view::npos)
      pieces.emplace_back(tag.substr(0, tag.size() - 1));
  const std::regex control("<[|]([^|>]*)[|]>|<\xEF\xBD\x9C((?!\xEF\xBD\x9C>).)*\xEF\xBD\x9C>");
  for (std::sregex_iterator at(signs.begin(), signs.end(), control), end; at != end; ++at)
    if (std::ranges::find(pieces, at->str()) == pieces.end()) pieces.push_back(at->str());
  return ListTokenizer::of_bytes(pieces);
}

// Tokens drawn evenly from each mask, closing signs a little likelier. Nothing where it does not end in time.
std::optional<std::string> drawn(const std::shared_ptr<const Grammar>& grammar, const Tokenizer& tokenizer,
                                 std::mt19937& random) {
  GrammarMatcher matcher(grammar);
  TokenMask mask;
  std::string text;
  for (int step = 0; step < 500; ++step) {
    if (matcher.is_finished() || (matcher.is_complete() && random() % 4 == 0)) return text;
    matcher.fill(mask);
    std::vector<int32_t> allowed;
    for (int32_t token = 0; token < tokenizer.n_vocab(); ++token) {
      if ((mask[static_cast<size_t>(token) / 64] >> (token % 64) & 1) == 0) continue;
      const bool closes =
          token < 256 && std::string_view("\"}]<[").find(static_cast<char>(token)) != std::string_view::npos;
      allowed.insert(allowed.end(), closes || token >= 256 ? 20 : 1, token);
    }
    EXPECT_FALSE(allowed.empty()) << text;
    if (allowed.empty()) return std::nullopt;
    const int32_t token = allowed[random() % allowed.size()];
    EXPECT_TRUE(matcher.accept(token));
    text += tokenizer.token_bytes(token, true);
  }
  return std::nullopt;
}

struct Call {
  std::string name, arguments;
};

std::vector<Call> calls_in(const ToolSyntax& syntax, std::string_view text, std::mt19937& random,
                           std::string_view begun = {}) {
  OutputParser parser(syntax, {.begun = begun, .has_tools = true, .tools = &tools()});
  std::vector<Call> calls;
  const auto take = [&](const std::vector<OutputEvent>& events) {
    for (const OutputEvent& event : events) {
      if (event.kind == Kind::call_begin) calls.push_back({event.text, {}});
      if (event.kind == Kind::arguments) calls.back().arguments += event.text;
    }
  };
  while (!text.empty()) {
    const size_t n = std::min<size_t>(text.size(), 1 + random() % 9);
    take(parser.push(text.substr(0, n)));
    text.remove_prefix(n);
  }
  take(parser.flush());
  return calls;
}

void expect_valid(const Call& call) {
  for (const Json& tool : tools().as_array()) {
    const Json& function = tool.at("function");
    if (function.at("name").as_string() != call.name) continue;
    EXPECT_TRUE(Validator(function.at("parameters")).is_valid(Json::parse(call.arguments, "arguments")))
        << call.arguments;
    return;
  }
  ADD_FAILURE() << "there is no tool " << call.name;
}

TEST(ToolCalls, RequiredCallsAreThereAndValid) {
  std::mt19937 random(static_cast<uint32_t>(::testing::UnitTest::GetInstance()->random_seed()));
  for (const ToolSyntax* syntax : tool_syntaxes()) {
    if (syntax->shape == ToolSyntax::Shape::none) continue;
    SCOPED_TRACE(syntax->name);
    const ListTokenizer tokenizer = tokenizer_of(*syntax);
    const auto tokens = std::make_shared<const TokenTrie>(tokenizer);
    for (const bool is_parallel : {true, false}) {
      const auto grammar = std::make_shared<const Grammar>(answer_rules({.syntax = *syntax,
                                                                         .tools = tools().as_array(),
                                                                         .are_required = true,
                                                                         .are_parallel = is_parallel},
                                                                        tokenizer),
                                                           tokens);
      int n_read = 0;
      for (int i = 0; i < 40 || (n_read == 0 && i < 4000); ++i) {
        const auto text = drawn(grammar, tokenizer, random);
        if (!text) continue;
        ++n_read;
        SCOPED_TRACE(*text);
        const std::vector<Call> calls = calls_in(*syntax, *text, random);
        EXPECT_GE(calls.size(), 1u);
        if (!is_parallel) {
          EXPECT_EQ(calls.size(), 1u);
        }
        for (const Call& call : calls) expect_valid(call);
      }
      EXPECT_GE(n_read, 1);
    }
  }
}

TEST(ToolCalls, AFreeAnswerHoldsNoBrokenCall) {
  std::mt19937 random(static_cast<uint32_t>(::testing::UnitTest::GetInstance()->random_seed()) + 1);
  for (const ToolSyntax* syntax : tool_syntaxes()) {
    if (syntax->shape == ToolSyntax::Shape::none) continue;
    SCOPED_TRACE(syntax->name);
    const ListTokenizer tokenizer = tokenizer_of(*syntax);
    const auto grammar = std::make_shared<const Grammar>(
        answer_rules({.syntax = *syntax, .tools = tools().as_array()}, tokenizer),
        std::make_shared<const TokenTrie>(tokenizer));
    // The opening sign may always come, and then only a call.
    GrammarMatcher matcher(grammar);
    EXPECT_TRUE(matcher.is_complete());
    if (!syntax->is_whole_answer) {
      EXPECT_TRUE(matcher.accept_bytes("Let me look."));
    }
    for (int i = 0; i < 10; ++i) {
      const auto text = drawn(grammar, tokenizer, random);
      if (!text) continue;
      SCOPED_TRACE(*text);
      for (const Call& call : calls_in(*syntax, *text, random)) expect_valid(call);
    }
  }
}

TEST(ToolCalls, ASignInThePromptOpensACallOrText) {
  std::mt19937 random(static_cast<uint32_t>(::testing::UnitTest::GetInstance()->random_seed()) + 2);
  for (const ToolSyntax* syntax : tool_syntaxes()) {
    if (syntax->text_name.empty()) continue;
    const ListTokenizer tokenizer = tokenizer_of(*syntax);
    const auto tokens = std::make_shared<const TokenTrie>(tokenizer);
    const std::string_view sign = syntax->begins.front();
    const GrammarSource yes{.kind = GrammarSource::Kind::choice, .text = {}, .choices = {"yes"}};
    for (const bool is_required : {true, false}) {
      const AnswerForm form{.syntax = *syntax,
                            .tools = tools().as_array(),
                            .are_required = is_required,
                            .begun = sign,
                            .content = is_required ? nullptr : &yes};
      const auto grammar = std::make_shared<const Grammar>(answer_rules(form, tokenizer), tokens);
      size_t n_called = 0;
      for (int i = 0; i < 40 || (n_called == 0 && i < 4000); ++i) {
        const auto text = drawn(grammar, tokenizer, random);
        if (!text) continue;
        SCOPED_TRACE(*text);
        const std::vector<Call> calls = calls_in(*syntax, *text, random, sign);
        for (const Call& call : calls) expect_valid(call);
        n_called += calls.size();
        if (calls.empty()) {
          EXPECT_EQ(*text, "all\nyes");
        }
        EXPECT_FALSE(is_required && calls.empty());
      }
      EXPECT_GE(n_called, 1u);
    }
  }
}

TEST(ToolCalls, RefusesByName) {
  const ToolSyntax& hermes = syntax_of_template("<tool_call></tool_call>");
  const ListTokenizer tokenizer = tokenizer_of(hermes);
  const auto fault_of = [&](const char* text) -> std::string {
    const Json json = Json::parse(text, "tools");
    try {
      answer_rules({.syntax = hermes, .tools = json.as_array()}, tokenizer);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  };
  EXPECT_NE(fault_of("[]").find("no tools"), std::string::npos);
  EXPECT_NE(fault_of(R"([{"function":{}}])").find("no name"), std::string::npos);
  EXPECT_NE(
      fault_of(R"([{"function":{"name":"f","parameters":{"type":"object","properties":{"a":{"not":{}}}}}}])")
          .find("tool \"f\", at /properties/a"),
      std::string::npos);
}

}  // namespace
}  // namespace millrace
