#include "grammar/grammar.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/error.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/lark.h"
#include "grammar/regex.h"
#include "grammar/testing/list_tokenizer.h"

namespace millrace {
namespace {

std::shared_ptr<const TokenTrie> byte_tokens() {
  static const auto trie = std::make_shared<const TokenTrie>(
      ListTokenizer::of_bytes({"ab", "abc", "\"}", "\",", "\": ", "true", "12", ", \"", "[[", "]]", "}}",
                               "\n  ", "<call>", "<end>", "é", "éé"}));
  return trie;
}

std::shared_ptr<const Grammar> compiled(const Rules& rules) {
  return std::make_shared<const Grammar>(rules, byte_tokens());
}
std::shared_ptr<const Grammar> of_gbnf(std::string_view text) { return compiled(parse_gbnf(text)); }
std::shared_ptr<const Grammar> of_regex(std::string_view pattern) {
  Rules rules;
  rules.root = rules.declare("root");
  rules.define(rules.root, regex(rules, pattern, Matched::whole, Spelling::plain));
  return compiled(rules);
}
std::shared_ptr<const Grammar> of_schema(std::string_view schema) {
  Rules rules;
  rules.root = rules.declare("root");
  rules.define(rules.root, json_schema(rules, Json::parse(schema, "the schema"), "the schema"));
  return compiled(rules);
}

bool matches(const std::shared_ptr<const Grammar>& grammar, std::string_view text) {
  GrammarMatcher matcher(grammar);
  return matcher.accept_bytes(text) && matcher.is_complete();
}

// At every byte of every text: a token is in the mask exactly when it can be accepted.
void expect_exact_masks(const std::shared_ptr<const Grammar>& grammar, std::string_view text) {
  GrammarMatcher matcher(grammar);
  for (size_t i = 0; i <= text.size(); ++i) {
    TokenMask mask;
    matcher.fill(mask);
    for (int32_t token = 0; token < grammar->tokens().n_vocab(); ++token) {
      GrammarMatcher next = matcher;
      const bool is_in_mask = (mask[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0;
      ASSERT_EQ(is_in_mask, next.accept(token)) << "token " << token << " behind " << text.substr(0, i);
    }
    if (i == text.size()) break;
    ASSERT_TRUE(matcher.accept_bytes(text.substr(i, 1))) << text.substr(0, i + 1);
  }
  EXPECT_TRUE(matcher.is_complete()) << text;
}

struct Case {
  std::string_view source;
  std::vector<std::string_view> matching, others;
};

void expect_language(const std::shared_ptr<const Grammar>& grammar, const Case& c) {
  SCOPED_TRACE(c.source);
  for (const std::string_view text : c.matching) expect_exact_masks(grammar, text);
  for (const std::string_view text : c.others) EXPECT_FALSE(matches(grammar, text)) << text;
}

// Tokens at random, short and long ones, whole and broken, where runs of characters begin, end and go on
// behind the rule.
TEST(Grammar, MasksOfRunsAreExact) {
  std::mt19937 random(static_cast<uint32_t>(::testing::UnitTest::GetInstance()->random_seed()));
  const std::string_view parts[] = {"a", "b",  "z", "Z", "0", " ",    "\"",  "\\",
                                    "n", "\n", "<", "é", "😀", "\xc3", "\xa9"};
  std::vector<std::string> pieces;
  for (int i = 0; i < 400; ++i) {
    std::string piece;
    const size_t n_parts = i < 380 ? 1 + random() % 6 : 25 + random() % 20, n_kinds = i % 3 == 0 ? 15 : 3;
    while (n_parts > 0 && piece.size() < n_parts) piece += parts[random() % n_kinds];
    if (std::ranges::find(pieces, piece) == pieces.end()) pieces.push_back(piece);
  }
  const ListTokenizer tokenizer = ListTokenizer::of_bytes(pieces);
  const auto tokens = std::make_shared<const TokenTrie>(tokenizer);
  const auto of_tokens = [&](Rules rules, Rules::Node node) {
    rules.define(rules.root, node);
    return std::make_shared<const Grammar>(rules, tokens, Grammar::Options{.prepare_s = 0});
  };
  std::vector<std::shared_ptr<const Grammar>> grammars;
  for (const char* schema :
       {R"({"maxLength":3})", R"({"minLength":2,"maxLength":40})", R"({"maxLength":300})", "{}",
        R"({"pattern":"^[a-z ]{2,9}0"})", R"({"pattern":"^[^<]*<b"})"}) {
    Json json = Json::parse(schema, "the schema");
    json["type"] = "string";
    Rules rules;
    rules.root = rules.declare("root");
    const Rules::Node node = json_schema(rules, json, "the schema");
    grammars.push_back(of_tokens(std::move(rules), node));
  }
  for (const char* source :
       {"root ::= w \" \" w \"0\" w\nw ::= [a-z]{0,3}", "root ::= (w [b-z0])*\nw ::= [a-z]{2,4} | [a-z] w",
        "root ::= [^<]* (\"<\" root)?",
        "root ::= c{1,20}\nc ::= [a-zé] | [\\u0080-\\U0010ffff] | \"\\\\\" [nz\"]"})
    grammars.push_back(
        std::make_shared<const Grammar>(parse_gbnf(source), tokens, Grammar::Options{.prepare_s = 0}));
  for (size_t g = 0; g < grammars.size(); ++g) {
    for (int i = 0; i < 6; ++i) {
      GrammarMatcher matcher(grammars[g]);
      for (int step = 0; step < 12 && !matcher.is_finished(); ++step) {
        TokenMask mask;
        matcher.fill(mask);
        std::vector<int32_t> allowed;
        for (int32_t token = 0; token < tokenizer.n_vocab(); ++token) {
          GrammarMatcher next = matcher;
          const bool is_allowed = next.accept(token);
          ASSERT_EQ((mask[static_cast<size_t>(token) / 64] >> (token % 64) & 1) != 0, is_allowed)
              << "grammar " << g << ", step " << step << ", " << tokenizer.piece(token);
          if (is_allowed) allowed.push_back(token);
        }
        ASSERT_FALSE(allowed.empty());
        matcher.accept(allowed[random() % allowed.size()]);
      }
    }
  }
}

TEST(Grammar, RegularExpressions) {
  const Case cases[] = {
      {"ab?c*", {"a", "ab", "abccc", "ac"}, {"", "b", "abb", "abcb"}},
      {"(a|bc){2,3}", {"aa", "abc", "bcbcbc"}, {"a", "aaaa"}},
      {"[^a-c]\\d+",
       {"d1", "é12", "😀0"},
       {"a1", "d",
        "\xff"
        "1"}},
      {"\\w+@\\w+\\.com", {"a_1@b.com"}, {"a@b.org", "@b.com"}},
      {"a{0,5}", {"", "aaaaa"}, {"aaaaaa"}},
      {"(?:)", {""}, {"a"}},
      {"[α-ω]{2}", {"αω"}, {"aω", "α"}},
      {"x.z", {"xyz", "x😀z"}, {"x\nz"}},
      {"(a|b)*a(a|b){9}", {"abbbbbbbbb", "bbbbaaaaaaaaaa"}, {"bbbbbbbbbb"}},
      {"^a$|^b$", {"a", "b"}, {"ab"}},
  };
  for (const Case& c : cases) expect_language(of_regex(c.source), c);
}

TEST(Grammar, Gbnf) {
  const Case cases[] = {
      {"root ::= \"a\" root \"b\" | \"\"", {"", "ab", "aaabbb"}, {"aab", "ba"}},
      {"root ::= root \"+\" t | t\nt ::= [0-9]+ | \"(\" root \")\"",
       {"1", "1+23", "(1+2)+3", "((4))"},
       {"+1", "1+", "(1"}},
      {"root ::= a | \"x\"\na ::= b \"1\" | \"y\"\nb ::= root \"2\" | a \"3\"",
       {"x", "y", "x21", "y31", "x2121", "x2131"},
       {"x2", "y3", "31"}},
      {"root ::= n a\nn ::= \"n\"?\na ::= n root \"z\" | \"q\"",
       {"q", "nq", "nnqz", "nqz", "nnnqzz"},
       {"z", "nz"}},
      {"# words\nroot ::= word (\" \" word){0,2} # three\nword ::= [a-z]+",
       {"ab abc", "x y z"},
       {"x y z w", ""}},
      {"root ::= \"[\" (root (\",\" root)*)? \"]\"", {"[]", "[[],[[]]]"}, {"[", "[,]"}},
      {"root ::= list\nlist ::= \"x\" | \"x\" \",\" list", {"x", "x,x,x"}, {"x,", ",x"}},
      {"root ::= \"a\" <call> \"b\"",
       {"a\xff<call>\xfe"
        "b"},
       {"ab"}},
      {"root ::= \"\\u00e9\\n\\\"\" [\\x41-\\x43\\]-]", {"é\n\"A", "é\n\"]", "é\n\"-"}, {"é\n\"D"}},
  };
  for (const Case& c : cases) expect_language(of_gbnf(c.source), c);
}

TEST(Grammar, Lark) {
  const Case cases[] = {
      {"start: NAME (\",\" NAME)*\nNAME: /[a-z]+/\n%ignore \" \"",
       {"a", "ab, c", "  a , b  "},
       {"a,", "A", "a b"}},
      {"?start: sum // comment\n?sum: product | sum \"+\" product -> add\n\n| sum \"-\" product\n"
       "product: INT | \"(\" sum \")\"\n%import common.INT\n%import common.WS\n%ignore WS",
       {"1", "1 + 2-(3)", "((12))"},
       {"1+", "(1"}},
      {"start: \"select\"i [A~2..3]\nA.2: \"a\"..\"c\"", {"SeLeCt", "selectabc"}, {"selecta", "selectabca"}},
      {"start: /a\\/[^\\/]b?/ X?\nX: \"x\" | Y\nY: \"y\"", {"a/c", "a/cby"}, {"a//", "a/cxy"}},
  };
  for (const Case& c : cases) expect_language(compiled(parse_lark(c.source)), c);
}

TEST(Grammar, JsonSchemas) {
  const Case cases[] = {
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["a"]})",
       {R"({"a":1})", R"({"a": -20, "b":"x\n\u00e9\ud83d\ude00"})", "{\n  \"a\": 0\n}"},
       {"{}", R"({"b":"x"})", R"({"a":01})", R"({"a":1,})", R"({"a":1,"c":2})", R"({"a":1,"b":"\ud83d"})"}},
      {R"({"type":"array","items":{"enum":["x","yy",1,null]},"minItems":1,"maxItems":3})",
       {R"(["x"])", R"(["yy", 1, null])"},
       {"[]", R"(["x","x","x","x"])", R"(["y"])"}},
      {R"({"type":"string","pattern":"^a+\"?$","maxLength":3})",
       {R"("a")", R"("aa\"")"},
       {R"("aaa\"")", R"("b")", R"("aaaa")"}},
      {R"({"type":"string","pattern":"b"})", {R"("b")", R"("xxb\ny")"}, {R"("a")"}},
      {R"({"type":"string","minLength":2,"maxLength":3})",
       {R"("éa")", R"("a\"b")", R"("😀😀😀")"},
       {R"("a")", R"("abcd")"}},
      {R"({"type":"integer","minimum":-5,"maximum":120})",
       {"-5", "0", "99", "120", "7"},
       {"-6", "121", "1000", "00", "1.0"}},
      {R"({"type":"number","minimum":0.25,"exclusiveMaximum":10})",
       {"0.25", "0.3", "9.99", "5"},
       {"0.24", "10", "10.0", "0", "-1"}},
      {R"({"type":"number","exclusiveMinimum":-1.5,"maximum":0})",
       {"-1.4", "0", "-0.5", "0.00"},
       {"-1.5", "-1.50", "0.1"}},
      {R"({"type":"integer","multipleOf":7,"minimum":1})", {"7", "14", "700"}, {"0", "8", "-7"}},
      {R"({"type":"number","multipleOf":0.25,"minimum":0})", {"0", "1.25", "3.5", "2.750"}, {"1.3", "0.251"}},
      {R"({"$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"],"additionalProperties":false}},"$ref":"#/$defs/n"})",
       {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":null}})"},
       {R"({"v":1})", R"({"v":1,"next":{}})"}},
      {R"({"type":["string","null"]})", {"null", R"("")"}, {"1"}},
      {R"({"type":"object","additionalProperties":{"type":"integer"}})",
       {"{}", R"({"a":1,"b":2})"},
       {R"({"a":"x"})"}},
      {R"({"type":"object","properties":{"ab":{"type":"integer"}},"additionalProperties":{"type":"boolean"}})",
       {R"({"ab":1})", R"({"abc":true})", R"({"ab":1,"a":false,"abcd":true})", R"({"a":true})"},
       {R"({"ab":true})", R"({"abc":1})", R"({"a":true,"ab":1})"}},
      {R"({"type":"object","properties":{"a":{},"b":{},"c":{}},"required":["b"]})",
       {R"({"b":1})", R"({"a":[],"b":{}})", R"({"b":1,"c":"x"})", R"({"a":1,"b":2,"c":3})"},
       {R"({"a":1})", R"({"b":1,"a":1})", R"({,"b":1})"}},
      {R"({"type":"object","patternProperties":{"^i_":{"type":"integer"},"s$":{"type":"string"}},"additionalProperties":false})",
       {R"({"i_x":1})", R"({"as":"v","i_1":2})"},
       {R"({"i_xs":1})", R"({"x":1})"}},
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":{"type":"boolean"},"minItems":1})",
       {"[1]", R"([1,"a"])", R"([1, "a", true, false])"},
       {"[]", R"(["a"])", R"([1,"a",2])"}},
      {R"({"allOf":[{"type":"object","properties":{"a":{"type":"number"}},"required":["a"]},{"properties":{"a":{"type":"integer","minimum":3},"b":{"const":"x"}},"required":["b"]}]})",
       {R"({"a":3,"b":"x"})"},
       {R"({"a":2,"b":"x"})", R"({"a":3})"}},
      {R"({"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"v":{"type":"integer"}},"required":["k","v"]},{"type":"object","properties":{"k":{"const":"b"},"v":{"type":"string"}},"required":["k","v"]}]})",
       {R"({"k":"a","v":1})", R"({"k":"b","v":"1"})"},
       {R"({"k":"a","v":"1"})", R"({"k":"c","v":1})"}},
      {R"({"type":"object","properties":{"x":{"type":"integer"}},"anyOf":[{"required":["x"]},{"properties":{"y":{"type":"null"}},"required":["y"]}]})",
       {R"({"x":1})", R"({"y":null})", R"({"x":1,"y":null})"},
       {"{}"}},
      {R"({"type":"string","format":"date"})",
       {R"("2024-02-29")", R"("1999-12-31")"},
       {R"("2023-02-29")", R"("2024-13-01")", R"("2024-04-31")"}},
      {R"({"type":"string","format":"ipv6"})",
       {R"("::1")", R"("1:2:3:4:5:6:7:8")", R"("fe80::1:2")", R"("::")", R"("1::")"},
       {R"("1:2:3")", R"("1::2::3")", R"("1:2:3:4:5:6:7::8")"}},
      {R"({"type":"object","propertyNames":{"pattern":"^[a-z]+$"},"additionalProperties":{"type":"integer"},"maxProperties":2})",
       {R"({"a":1,"b":2})"},
       {R"({"A":1})", R"({"a":1,"b":2,"c":3})"}},
      {R"({"type":"object","propertyNames":{"pattern":"^[a-z]{1,4}$"},"additionalProperties":{"type":"integer"},"minProperties":1})",
       {R"({"gvdn":1})", R"({"a": 1, "bc":2})"},
       {"{}", R"({"abcde":1})"}},
      {R"(true)", {R"({"a":[1,2.5e3,{"b":null}]})", "[]", "-0.5", "\"\""}, {"", "{", "tru", "1.", "[1,]"}},
  };
  for (const Case& c : cases) expect_language(of_schema(c.source), c);
}

// Why a grammar is refused, in a sentence; empty where it is not.
template <class Compile>
std::string fault_of(Compile&& compile) {
  try {
    compile();
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
}

TEST(Grammar, RefusesByName) {
  const std::pair<const char*, const char*> schemas[] = {
      {R"({"type":"array","uniqueItems":true})", "uniqueItems"},
      {R"({"not":{"type":"string"}})", "not"},
      {R"({"if":{},"then":{}})", "if"},
      {R"({"type":"object","properties":{"a":{"type":"string","format":"iri"}}})", "/properties/a"},
      {R"({"type":"striing"})", "striing"},
      {R"({"$ref":"http://example.com/x"})", "leads out"},
      {R"({"$ref":"#/$defs/x"})", "leads to nothing"},
      {R"({"type":"string","pattern":"a\\1"})", "back references"},
      {R"x({"type":"string","pattern":"a(?=b)"})x", "looking around"},
      {R"({"type":"string","minLength":5,"maxLength":2})", "minLength"},
      {R"({"type":"string","maxLength":1000000000})", "maxLength"},
      {R"({"type":"array","contains":{"type":"integer"}})", "contains"},
      {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "oneOf"},
      {R"({"$ref":"#"})", "no text"},
      {R"({"allOf":[{"type":"string"},{"type":"integer"}]})", "no text"},
      {R"([1])", "expected an object"},
  };
  for (const auto& [schema, word] : schemas) {
    const std::string fault = fault_of([&, s = schema] { of_schema(s); });
    EXPECT_NE(fault.find(word), std::string::npos) << schema << ": " << fault;
  }
  const std::pair<const char*, const char*> grammars[] = {
      {"root ::= x", "\"x\" is not defined"},
      {"x ::= \"a\"", "no rule \"root\""},
      {"root ::= root", "no text"},
      {"root ::= \"a\" {3,1}", "least above"},
      {"root ::= \"a", "closing quote"},
      {"root ::= *", "expected a literal"},
      {"root ::= \"a\"{999999999}", "repetition"},
      {"root ::= [b-a]", "ascend"},
      {"root ::= (\"a\"{9999}){9999}", "states"},
      {"root ::= \"a\" | (\"b\"", "expected )"},
  };
  for (const auto& [grammar, word] : grammars) {
    const std::string fault = fault_of([&, g = grammar] { of_gbnf(g); });
    EXPECT_NE(fault.find(word), std::string::npos) << grammar << ": " << fault;
  }
}

TEST(Grammar, ForcedTextIsWhatMustCome) {
  GrammarMatcher matcher(
      of_schema(R"({"type":"object","properties":{"name":{"const":"x"}},"required":["name"]})"));
  EXPECT_EQ(matcher.forced(100), "{");
  Rules rules;
  rules.root = rules.declare("root");
  rules.define(
      rules.root,
      json_schema(
          rules,
          Json::parse(R"({"type":"object","properties":{"name":{"enum":["xa","xb"]}},"required":["name"]})",
                      "s"),
          "s", {.has_free_space = false}));
  GrammarMatcher dense(compiled(rules));
  EXPECT_EQ(dense.forced(100), "{\"name\":\"x");
  EXPECT_EQ(dense.forced(3), "{\"n");
  ASSERT_TRUE(dense.accept_bytes("{\"name\":\"xa"));
  EXPECT_EQ(dense.forced(100), "\"}");
  ASSERT_TRUE(dense.accept_bytes("\"}"));
  EXPECT_TRUE(dense.is_finished());
}

}  // namespace
}  // namespace millrace
