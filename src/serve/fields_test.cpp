#include "serve/fields.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

Json parsed(std::string_view text) { return Json::parse(text, "the test"); }

// The field that is refused, or "" where nothing is.
template <class Read>
std::string refused(std::string_view text, Read read) {
  const Json body = parsed(text);
  try {
    Fields fields(body);
    read(fields);
    fields.finish();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status, 400);
    EXPECT_NE(std::string(error.what()).find(error.param), std::string::npos) << error.what();
    return error.param.empty() ? "the body" : error.param;
  }
  return "";
}

TEST(Fields, ReadsWithTypeAndRange) {
  const Json body =
      parsed(R"({"b": true, "i": 3, "d": 1, "t": "x", "one": "s", "many": ["s", "t"], "n": null})");
  Fields fields(body);
  EXPECT_EQ(fields.boolean("b"), true);
  EXPECT_EQ(fields.integer("i", 0, 3), 3);
  EXPECT_EQ(fields.number("d", 0, 1), 1.0);
  EXPECT_EQ(fields.text("t"), "x");
  EXPECT_EQ(fields.texts("one", 1), std::vector<std::string>{"s"});
  EXPECT_EQ(fields.texts("many", 2).size(), 2u);
  EXPECT_FALSE(fields.integer("n", 0, 1));
  EXPECT_FALSE(fields.text("absent"));
  fields.finish();
}

TEST(Fields, CoercesNothing) {
  EXPECT_EQ(refused(R"({"a": 1})", [](Fields& f) { f.boolean("a"); }), "a");
  EXPECT_EQ(refused(R"({"a": "1"})", [](Fields& f) { f.integer("a", 0, 9); }), "a");
  EXPECT_EQ(refused(R"({"a": 1.0})", [](Fields& f) { f.integer("a", 0, 9); }), "a");
  EXPECT_EQ(refused(R"({"a": true})", [](Fields& f) { f.number("a", 0, 9); }), "a");
  EXPECT_EQ(refused(R"({"a": 99999999999999999999})", [](Fields& f) { f.integer("a", 0, 9); }), "a");
  EXPECT_EQ(refused(R"({"a": [1, -1]})", [](Fields& f) { f.ids("a", 9); }), "a");
  EXPECT_EQ(refused(R"({"a": [1, 2]})", [](Fields& f) { f.ids("a", 1); }), "a");
  EXPECT_EQ(refused(R"([])", [](Fields&) {}), "the body");
}

TEST(Fields, IgnoresNothing) {
  EXPECT_EQ(refused(R"({"a": 1, "b": 2})", [](Fields& f) { f.integer("a", 0, 9); }), "b");
  EXPECT_EQ(refused(R"({"a": 1})", [](Fields& f) { f.allow({"a"}); }), "");
  EXPECT_EQ(refused(R"({"a": 1})", [](Fields& f) { f.refuse("a", "no"); }), "a");
  EXPECT_EQ(refused(R"({"a": null})", [](Fields& f) { f.refuse("a", "no"); }), "");
  EXPECT_EQ(refused(R"({"a": false})", [](Fields& f) { f.refuse_unless("a", false, "no"); }), "");
  EXPECT_EQ(refused(R"({"a": 0})", [](Fields& f) { f.refuse_unless("a", false, "no"); }), "a");
}

TEST(Fields, NamesWhatIsInside) {
  EXPECT_EQ(
      refused(R"({"a": {"b": 1}})", [](Fields& f) { Fields(*f.object("a"), f.full_name("a")).boolean("b"); }),
      "a.b");
}

}  // namespace
}  // namespace millrace
