#include "serve/grammar_fields.h"

#include <gtest/gtest.h>

#include "grammar/testing/list_tokenizer.h"

namespace millrace {
namespace {

class GrammarFieldsTest : public testing::Test {
 protected:
  std::shared_ptr<const Grammar> read(std::string_view body) {
    const Json json = Json::parse(body, "the body");
    Fields fields(json);
    auto grammar = read_grammar(fields, &grammars_);
    fields.finish();
    return grammar;
  }
  bool allows(std::string_view body, std::string_view text) {
    GrammarMatcher matcher(read(body));
    return matcher.accept_bytes(text) && matcher.is_complete();
  }
  std::string refusal(std::string_view body) {
    try {
      read(body);
      return {};
    } catch (const ApiError& error) {
      EXPECT_EQ(error.status, 400);
      return error.param + ": " + error.what();
    }
  }

  const ListTokenizer tokenizer_ = ListTokenizer::of_bytes();
  GrammarCache grammars_{tokenizer_, 256};
};

TEST_F(GrammarFieldsTest, ReadsWhatEachDialectSends) {
  EXPECT_EQ(read("{}"), nullptr);
  EXPECT_EQ(read(R"({"response_format":{"type":"text"}})"), nullptr);
  EXPECT_TRUE(allows(R"({"response_format":{"type":"json_object"}})", "{\"a\":[1]}"));
  EXPECT_TRUE(allows(
      R"({"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"integer"}}}})",
      "12"));
  EXPECT_TRUE(allows(R"({"response_format":{"type":"json_object","schema":{"type":"null"}}})", "null"));
  EXPECT_TRUE(allows(R"({"structured_outputs":{"choice":["yes","no"]}})", "yes"));
  EXPECT_TRUE(allows(R"({"structured_outputs":{"regex":"a+"}})", "aaa"));
  EXPECT_TRUE(allows(R"({"guided_json":"{\"type\":\"boolean\"}"})", "true"));
  EXPECT_TRUE(allows(R"({"grammar":"root ::= \"x\""})", "x"));
  EXPECT_TRUE(allows(R"({"guided_grammar":"start: \"x\""})", "x"));
  EXPECT_TRUE(allows(R"({"json_schema":{"type":"array","maxItems":0}})", "[]"));
}

TEST_F(GrammarFieldsTest, RefusesByName) {
  EXPECT_NE(refusal(R"({"json_schema":{"not":{}}})").find("json_schema: the JSON schema"), std::string::npos);
  EXPECT_NE(refusal(R"({"guided_regex":"a","grammar":"root ::= \"x\""})").find("cannot both"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"response_format":{"type":"json_schema"}})").find("json_schema"), std::string::npos);
  EXPECT_NE(refusal(R"({"structured_outputs":{"structural_tag":"x"}})").find("structural_tag"),
            std::string::npos);
}

}  // namespace
}  // namespace millrace
