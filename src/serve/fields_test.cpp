#include "serve/fields.h"

#include <gtest/gtest.h>

#include "serve/field_log.h"

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

TEST(Fields, WhatIsAskedDescribesTheBody) {
  const Json body = parsed(R"({"list": [{"name": "x"}, {"name": "y", "age": 3}]})");
  FieldLog log;
  {
    const FieldLog::Recording recording(log);
    Fields fields(body);
    const Json& list = fields.need(fields.array("list", 9), "list");
    for (size_t i = 0; i < list.as_array().size(); ++i) {
      Fields one(list.as_array()[i], fmt::format("list[{}]", i));
      one.need(one.text("name"), "name");
      if (i == 1) one.need(one.integer("age", 0, 200), "age");
      one.finish();
    }
    fields.number("share", 0, 1);
    fields.choice("kind", {"a", "b"});
    fields.refuse_unless("store", false, "nothing is stored");
    fields.allow({"user"});
    fields.finish();
  }
  EXPECT_EQ(FieldLog::current(), nullptr);
  EXPECT_EQ(log.schema(), parsed(R"({"type": "object", "properties": {
      "list": {"type": "array", "maxItems": 9, "items": {"properties": {
        "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 200}},
        "required": ["name"], "additionalProperties": false}},
      "share": {"type": "number", "minimum": 0.0, "maximum": 1.0},
      "kind": {"type": "string", "enum": ["a", "b"]},
      "store": {"const": false, "x-millrace": "refused", "description": "Refused: nothing is stored"},
      "user": {"x-millrace": "ignored", "description": "Read; changes no answer"}},
    "required": ["list"], "additionalProperties": false})"))
      << log.schema().dump(2);
}

TEST(Fields, ZeroIsZero) {
  const auto read = [](Fields& f) { f.refuse_unless("r", 0, "why"); };
  EXPECT_EQ(refused(R"({"r": 0.0})", read), "");
  EXPECT_EQ(refused(R"({"r": 0.5})", read), "r");
}

}  // namespace
}  // namespace millrace
