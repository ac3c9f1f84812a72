#include "base/json.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "base/json_events.h"

namespace millrace {
namespace {

Json parse(std::string_view text) { return Json::parse(text, "the text"); }

std::string sentence_of(std::string_view text) {
  try {
    parse(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    return error.what();
  }
  return "";
}

TEST(Json, KeepsTheOrderOfMembers) {
  EXPECT_EQ(parse(R"({"b":1,"a":{"d":2,"c":3}})").dump(), R"({"b":1,"a":{"d":2,"c":3}})");
}

TEST(Json, OfEqualKeysTheLastWinsAtThePlaceOfTheFirst) {
  EXPECT_EQ(parse(R"({"a":1,"b":2,"a":3})").dump(), R"({"a":3,"b":2})");
  // The same past the size from which keys are found through a table.
  std::string text = "{", expected = "{";
  for (int i = 0; i < 100; ++i) {
    text += fmt::format("\"{}\":0,", i % 80);
    if (i < 80) expected += fmt::format("\"{}\":{},", i, 0);
  }
  text += R"("7":1})";
  expected.back() = '}';
  expected.replace(expected.find("\"7\":0"), 5, "\"7\":1");
  EXPECT_EQ(parse(text).dump(), expected);
}

TEST(Json, KeepsIntegersAndNumbersApart) {
  EXPECT_TRUE(parse("1").is_int());
  EXPECT_TRUE(parse("1.0").is_double());
  EXPECT_TRUE(parse("1e0").is_double());
  EXPECT_EQ(parse("[1,1.0,-0.5,1e22]").dump(), "[1,1.0,-0.5,1e22]");
  EXPECT_EQ(parse("-9223372036854775808").as_int(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(parse("9223372036854775807").as_int(), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(parse("9223372036854775808").as_double(), 0x1p63);
  EXPECT_EQ(parse("-9223372036854775809").as_double(), -0x1p63);
  EXPECT_EQ(parse("3").as_double(), 3.0);
}

TEST(Json, ReadsNumbersExactly) {
  EXPECT_EQ(parse("184467440737095516155").as_double(), 184467440737095516155.0);
  EXPECT_EQ(parse("2.2250738585072011e-308").as_double(), 2.2250738585072011e-308);
  EXPECT_EQ(parse("123456789.123456789").as_double(), 123456789.123456789);
  EXPECT_EQ(parse("5e-324").as_double(), 5e-324);
  EXPECT_EQ(parse("1e-999").as_double(), 0.0);
  EXPECT_TRUE(std::signbit(parse("-0.0").as_double()));
  std::mt19937_64 random(1);
  for (int i = 0; i < 20000; ++i) {
    const double value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(parse(fmt::format("{:.17e}", value)).as_double(), value);
  }
}

TEST(Json, RefusesNumbersThatNoDoubleHolds) {
  EXPECT_NE(sentence_of("9e308"), "");
  EXPECT_NE(sentence_of("-9e308"), "");
  EXPECT_NE(sentence_of("1e999"), "");
  EXPECT_NE(sentence_of("1" + std::string(400, '0')), "");
}

TEST(Json, RefusesWhatIsNoJson) {
  for (const std::string_view text :
       {"",         " ",       "{",         "[1,]",        "{\"a\":1,}", "{a:1}",    "01",           "+1",
        ".5",       "1.",      "-",         "tru",         "nul",        "'a'",      "\"a",          "[1 2]",
        "1 2",      "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\n\"",     "\"\xff\"", "\"\xc0\x80\"", "NaN",
        "Infinity", "//"}) {
    EXPECT_NE(sentence_of(text), "") << text;
  }
  EXPECT_NE(sentence_of(std::string_view("1\0", 2)), "");
  EXPECT_NE(sentence_of(std::string_view("[1]\0[2]", 7)), "");
}

TEST(Json, SaysWhere) {
  EXPECT_EQ(sentence_of("[1,x]"), "the text is no valid JSON at byte 3: Invalid value.");
  try {
    Json::parse("{", "a\x1b[0m", ErrorKind::usage);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("a\\x1b[0m is no valid JSON"), std::string::npos);
  }
}

TEST(Json, LimitsDepthAndNeedsNoStackForIt) {
  const auto nested = [](size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_EQ(sentence_of(nested(128)), "");
  EXPECT_EQ(sentence_of(nested(129)), "the text nests deeper than the 128 levels allowed");
  EXPECT_EQ(sentence_of(std::string(10'000'000, '[')), "the text nests deeper than the 128 levels allowed");
}

TEST(Json, ManyMembersTakeLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 300'000; ++i) text += fmt::format("\"{}\":{},", i, i);
  text.back() = '}';
  EXPECT_EQ(parse(text).as_object().size(), 300'000u);
}

TEST(Json, StringsAreUnescapedAndEscaped) {
  EXPECT_EQ(parse(R"("\u00e9\ud83d\ude00\n\"\\\/")").as_string(), "é😀\n\"\\/");
  EXPECT_EQ(parse(R"("a\u0000b")").as_string(), std::string("a\0b", 3));
  EXPECT_EQ(Json("é\x1f\"\\").dump(), R"("é\u001F\"\\")");
}

TEST(Json, NotANumberIsNull) {
  EXPECT_EQ(Json(std::nan("")).dump(), "null");
  EXPECT_EQ(Json(-HUGE_VAL).dump(), "null");
}

TEST(Json, WhatIsWrittenIsReadBack) {
  const Json value = parse(R"({"a":[null,true,1,1.5,"x",{}],"b":{"c":[]},"d":-7})");
  EXPECT_EQ(parse(value.dump()), value);
  EXPECT_EQ(parse(value.dump(2)), value);
  EXPECT_EQ(Json(Json::Object{{"a", Json::Array{1}}}).dump(2), "{\n  \"a\": [\n    1\n  ]\n}");
}

TEST(Json, NamesTheTypesThatDiffer) {
  const auto sentence = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(sentence([] { parse("1").as_string(); }), "expected a string, found an integer");
  EXPECT_EQ(sentence([] { parse("\"x\"").as_double(); }), "expected a number, found a string");
  EXPECT_EQ(sentence([] { parse("1.5").as_int(); }), "expected an integer, found a number");
  EXPECT_EQ(sentence([] { parse("{}").at("k"); }), "expected a member \"k\" in an object");
  EXPECT_EQ(parse("[]").find("k"), nullptr);
}

TEST(Json, MembersAreMadeWhereThereAreNone) {
  Json value;
  value["a"]["b"] = 1;
  value["a"]["c"] = Json::Array{2, "x"};
  value["a"]["b"] = 3;
  EXPECT_EQ(value.dump(), R"({"a":{"b":3,"c":[2,"x"]}})");
}

// Writes the events as text.
class Trace final : public JsonEvents {
 public:
  void begin_object() override { text += "{"; }
  void end_object() override { text += "}"; }
  void begin_array() override { text += "["; }
  void end_array() override { text += "]"; }
  void key(std::string_view key) override { text += std::string(key) + "="; }
  void value(Json scalar) override { text += scalar.dump() + ";"; }

  std::string text;
};

TEST(JsonEvents, ComeInTheOrderOfTheText) {
  Trace trace;
  read_json_events(R"({"a":[1,{"b":null}],"a":"x"})", "the text", trace, ErrorKind::bad_model, {});
  EXPECT_EQ(trace.text, R"({a=[1;{b=null;}]a="x";})");
}

}  // namespace
}  // namespace millrace
