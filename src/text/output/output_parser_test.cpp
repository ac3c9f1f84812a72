#include "text/output/output_parser.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <random>

#include "base/file.h"
#include "text/output/written_calls.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;
using Kind = OutputEvent::Kind;

// Events with neighbours of one kind joined.
void append(std::vector<OutputEvent>& all, const std::vector<OutputEvent>& more) {
  for (const OutputEvent& event : more) {
    if (!all.empty() && all.back().kind == event.kind && event.kind <= Kind::arguments &&
        event.kind != Kind::call_begin) {
      all.back().text += event.text;
    } else {
      all.push_back(event);
    }
  }
}

std::vector<OutputEvent> parsed(const ToolSyntax& syntax, const OutputParser::Options& options,
                                std::string_view text, std::mt19937* random = nullptr) {
  OutputParser parser(syntax, options);
  std::vector<OutputEvent> all;
  while (!text.empty()) {
    size_t n = random == nullptr ? text.size() : 1 + (*random)() % 6;
    n = std::min(n, text.size());
    append(all, parser.push(text.substr(0, n)));
    text.remove_prefix(n);
  }
  append(all, parser.flush());
  return all;
}

const ToolSyntax& syntax_of(std::string_view name) {
  for (const ToolSyntax* syntax : tool_syntaxes())
    if (syntax->name == name) return *syntax;
  ADD_FAILURE() << name;
  return *tool_syntaxes().back();
}

struct Case {
  std::string_view syntax, text;
  std::vector<OutputEvent> events;
};

const std::vector<Case>& cases() {
  const OutputEvent begin{Kind::call_begin, "f"}, end{Kind::call_end, ""};
  const auto arguments = [](const char* text) { return OutputEvent{Kind::arguments, text}; };
  const auto content = [](const char* text) { return OutputEvent{Kind::content, text}; };
  const auto reasoning = [](const char* text) { return OutputEvent{Kind::reasoning, text}; };
  static const std::vector<Case> kCases{
      {"hermes",
       "<think>\nhm < \n</think>\n\nI look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": "
       "\"}\\\"<\"}}\n</tool_call>\n<tool_call>\n{\"arguments\": {\"b\": [1]}, \"name\": "
       "\"f\"}\n</tool_call>",
       {reasoning("hm <"), content("I look."), begin, arguments("{\"a\": \"}\\\"<\"}"), end, begin,
        arguments("{\"b\": [1]}"), end}},
      {"hermes", "no <tool_cal here, <b> 1 <", {content("no <tool_cal here, <b> 1 <")}},
      {"hermes", "<tool_call>\nbroken", {content("broken")}},
      {"hermes",
       "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1",
       {begin, arguments("{\"a\": 1"), end}},
      {"llama", "{\"name\": \"f\", \"parameters\": {\"a\": 1}}", {begin, arguments("{\"a\": 1}"), end}},
      {"llama", "Sure: {\"name\": 1}\n", {content("Sure: {\"name\": 1}\n")}},
      {"mistral",
       "Ok[TOOL_CALLS]f[ARGS]{\"a\": {}}[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{}",
       {content("Ok"), begin, arguments("{\"a\": {}}"), end, begin, arguments("{}"), end}},
      {"mistral_list",
       "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": \"]\"}}, {\"name\": \"f\", \"arguments\": {}}]",
       {begin, arguments("{\"a\": \"]\"}"), end, begin, arguments("{}"), end}},
      {"deepseek_v31",
       "x</"
       "think>y<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"a\":1}<｜tool▁call▁end｜><"
       "｜tool▁calls▁end｜>",
       {content("x</think>y"), begin, arguments("{\"a\":1}"), end}},
      {"deepseek_r1",
       "<think>r</"
       "think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{\"a\":1}\n```<"
       "｜tool▁call▁end｜><｜tool▁calls▁end｜>",
       {reasoning("r"), begin, arguments("{\"a\":1}"), end}},
      {"kimi",
       "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a\": "
       "1}<|tool_call_end|><|tool_calls_section_end|>",
       {begin, arguments("{\"a\": 1}"), end}},
      {"harmony",
       "<|channel|>analysis<|message|>think<|end|><|start|>assistant<|channel|>commentary to=functions.f "
       "<|constrain|>json<|message|>{\"a\":1}<|call|>",
       {reasoning("think"), begin, arguments("{\"a\":1}"), end}},
      {"harmony",
       "<|channel|>analysis<|message|>think<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>",
       {reasoning("think"), content("Hi")}},
      {"qwen_coder",
       "<tool_call>\n<function=f>\n<parameter=a>\nline 1\nline "
       "2\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>",
       {begin, arguments("{\"a\": \"line 1\\nline 2\", \"n\": 3}"), end}},
      {"qwen_coder",  // a tag within a JSON string is text, and a quote in a text opens no string
       "<tool_call>\n<function=f>\n<parameter=l>\n[\"</parameter>\", "
       "\"\\\"\"]\n</parameter>\n<parameter=a>\n[\"\n"
       "</parameter>\n</function>\n</tool_call>",
       {begin, arguments(R"({"l": ["</parameter>","\""], "a": "[\""})"), end}},
      {"qwen_coder",  // one that nothing closes hides no tag
       "<tool_call>\n<function=f>\n<parameter=l>\n[\"\n</parameter>\n<parameter=n>\n[1\n</parameter>\n</"
       "function>",
       {begin, arguments(R"({"l": "[\"", "n": "[1"})"), end}},
      {"glm",
       "<think></think>\n<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>text</arg_value>\n<arg_key>n</"
       "arg_key>\n<arg_value>[1]</arg_value>\n</tool_call>",
       {begin, arguments("{\"a\": \"text\", \"n\": [1]}"), end}},
      {"minimax",
       "<minimax:tool_call>\n<invoke name=\"f\">\n<parameter "
       "name=\"a\">12</parameter>\n</invoke>\n</minimax:tool_call>",
       {begin, arguments("{\"a\": \"12\"}"), end}},
      {"cohere",
       "<|START_THINKING|>r<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": "
       "\"f\", \"parameters\": {\"a\": 1}}\n]<|END_ACTION|>",
       {reasoning("r"), begin, arguments("{\"a\": 1}"), end}},
      {"granite", "<|tool_call|>[{\"name\": \"f\", \"arguments\": {}}]", {begin, arguments("{}"), end}},
      {"phi",
       "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"x\": null}}]<|/tool_call|>",
       {begin, arguments("{\"x\": null}"), end}},
      {"seed",
       "<seed:think>r</seed:think>\n<seed:tool_call>\n<function=f>\n<parameter=a>[1]</"
       "parameter>\n<parameter=n>['it\\'s', "
       "True]</parameter>\n</function>\n</seed:tool_call><seed:eos>",
       {reasoning("r"), begin, arguments(R"({"a": "[1]", "n": ["it's",true]})"), end}},
      {"deepseek_dsml",
       "ok\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"n\" "
       "string=\"false\">[\"</｜DSML｜parameter>\"]</｜DSML｜parameter>\n<｜DSML｜parameter name=\"b\" "
       "string=\"true\">1</"
       "｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
       {content("ok"), begin, arguments(R"({"n": ["</｜DSML｜parameter>"], "b": "1"})"), end}},
      {"gemma",
       "<|channel>thought\nr\n<channel|>ok<|tool_call>call:f{a:<|\"|>}, "
       "\"b<|\"|>,n:{k:[1,<|\"|>x<|\"|>],<|\"|>l m<|\"|>:null}}"
       "<tool_call|><|tool_call>call:f{}<tool_call|><|tool_response>",
       {reasoning("r"), content("ok"), begin, arguments(R"({"a":"}, \"b","n":{"k":[1,"x"],"l m":null}})"),
        end, begin, arguments("{}"), end}},
      {"gigachat",
       "I look.<|function_call|>{\"name\": \"f\", \"arguments\": {\"a\": 1}}<|message_sep|>\n\n",
       {content("I look."), begin, arguments("{\"a\": 1}"), end}},
      {"gigachat_role",
       "I look.<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"f\", \"arguments\": "
       "{}}<|message_sep|>\n\n",
       {content("I look."), begin, arguments("{}"), end}},
      {"apertus",
       "<|inner_prefix|>r<|inner_suffix|>ok<|tools_prefix|>[{\"f\": {\"f\": \"}\"}}, {\"f\": "
       "{}}]<|tools_suffix|>",
       {reasoning("r"), content("ok"), begin, arguments("{\"f\": \"}\"}"), end, begin, arguments("{}"), end}},
      {"command_r",
       "Action:\n```json\n[\n    {\n        \"tool_name\": \"f\",\n        \"parameters\": {\"a\": 1}\n    "
       "}\n]```",
       {begin, arguments("{\"a\": 1}"), end}},
      {"lfm",
       "ok <|tool_call_start|>[f(a=\"x)]'\", n=[1, {'k': 'it\\'s \"(\"', \"l\": None}, True]), f()]"
       "<|tool_call_end|> behind",
       {content("ok"), begin, arguments(R"({"a":"x)]'","n":[1,{"k":"it's \"(\"","l":null},true]})"), end,
        begin, arguments("{}"), end, content("behind")}},
      {"lfm", "<|tool_call_start|>[1, 2]", {content("1, 2]")}},
      {"llama4",
       "[f(a=\"b\", n=-1.5e3), f(n=[True,])]",
       {begin, arguments(R"({"a":"b","n":-1500.0})"), end, begin, arguments(R"({"n":[true]})"), end}},
      {"llama4", "<|python_start|>[f(n=1)]<|python_end|>", {begin, arguments(R"({"n":1})"), end}},
      {"llama4", "[1, 2] is a list (of two)", {content("[1, 2] is a list (of two)")}},
      {"llama4", "[f", {content("[f")}},
      {"llama4_json", "{\"name\": \"f\", \"parameters\": {\"a\": 1}}", {begin, arguments("{\"a\": 1}"), end}},
      {"functionary2",
       ">>>all\nHi >> you>>>f\n{\"a\": 1}>>>f\n{}",
       {content("Hi >> you"), begin, arguments("{\"a\": 1}"), end, begin, arguments("{}"), end}},
      {"functionary", "<function=f>{\"a\": 1}</function>", {begin, arguments("{\"a\": 1}"), end}},
      {"plain", "<think>r</think>\n\n answer ", {reasoning("r"), content("answer ")}},
  };
  return kCases;
}

// The members in the order of their names: some templates sort them.
Json sorted(const Json& object) {
  std::map<std::string, Json> members;
  for (const auto& [name, member] : object.as_object()) members[name] = member;
  Json out = Json::Object();
  for (const auto& [name, member] : members) out[name] = member;
  return out;
}

const Json& tools() {
  static const Json kTools = Json::parse(
      R"([{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string"},"n":{}}}}}])",
      "tools");
  return kTools;
}

TEST(OutputParser, TakesApartWhatEachFamilyWrites) {
  for (const Case& c : cases())
    EXPECT_EQ(parsed(syntax_of(c.syntax), {.has_tools = true, .tools = &tools()}, c.text), c.events)
        << c.syntax << ": " << c.text;
}

TEST(OutputParser, GivesTheSameHoweverTheTextIsCut) {
  std::mt19937 random(1);
  for (const Case& c : cases()) {
    for (int i = 0; i < 200; ++i)
      ASSERT_EQ(parsed(syntax_of(c.syntax), {.has_tools = true, .tools = &tools()}, c.text, &random),
                c.events)
          << c.syntax << ": " << c.text;
  }
}

// Values of all kinds, with the signs of every syntax in texts.
Json drawn_value(std::mt19937& random, int depth) {
  static const std::vector<std::string> kTexts{"",   "plain",        "it's", "a \"b\" \\", "}",
                                               ")]", "Zürich\nhere", "[1",   "None"};
  switch (random() % (depth > 0 ? 7 : 5)) {
    case 0:
      return Json(static_cast<int64_t>(random() % 2000) - 1000);
    case 1:
      return Json(random() % 2 == 0);
    case 2:
      return {};
    case 3:
      return Json(static_cast<double>(random() % 100) / 8 + 0.0625);
    case 5: {
      Json::Array out;
      for (size_t n = random() % 3; n > 0; --n) out.push_back(drawn_value(random, depth - 1));
      return Json(std::move(out));
    }
    case 6: {
      Json out = Json::Object();
      for (size_t n = random() % 3; n > 0; --n) out["k" + std::to_string(n)] = drawn_value(random, depth - 1);
      return out;
    }
    default:
      return Json(kTexts[random() % kTexts.size()]);
  }
}

// What is written of calls is what was called, in every syntax.
TEST(OutputParser, ReadsWhatIsWritten) {
  std::mt19937 random(1);
  for (const ToolSyntax* syntax : tool_syntaxes()) {
    if (syntax->shape == ToolSyntax::Shape::none) continue;
    for (int i = 0; i < 100; ++i) {
      Json::Array calls;
      // A call that is the whole answer is alone, but in a list.
      const bool is_alone = syntax->is_whole_answer && syntax->shape == ToolSyntax::Shape::object;
      for (size_t n = 1 + (is_alone ? 0 : random() % 2); n > 0; --n) {
        Json call;
        call["function"]["name"] = "f";
        Json& arguments = call["function"]["arguments"] = Json::Object();
        if (random() % 4 != 0) arguments["a"] = "text " + std::to_string(random() % 10) + " [\"{";
        // Behind tags a text that is like another value is one to the tool's schema alone.
        Json value = drawn_value(random, 2);
        if (value.is_string() && syntax->shape == ToolSyntax::Shape::members) value = 1;
        if (random() % 4 != 0) arguments["n"] = value;
        calls.push_back(std::move(call));
      }
      const std::string text = written_calls(*syntax, calls);
      SCOPED_TRACE(std::string(syntax->name) + ": " + text);
      Json::Array read;
      for (const OutputEvent& event :
           parsed(*syntax, {.has_tools = true, .tools = &tools()}, text, &random)) {
        EXPECT_NE(event.kind, Kind::content);
        if (event.kind == Kind::call_begin) read.emplace_back()["function"]["name"] = event.text;
        if (event.kind == Kind::arguments)
          read.back()["function"]["arguments"] = Json::parse(event.text, "arguments");
      }
      ASSERT_EQ(read, calls);
    }
  }
}

TEST(OutputParser, BeginsWhereThePromptEnded) {
  const std::vector<OutputEvent> all{{Kind::content, "Hi"}},
      called{{Kind::call_begin, "f"}, {Kind::arguments, "{}"}, {Kind::call_end, ""}};
  EXPECT_EQ(parsed(syntax_of("functionary2"), {.begun = ">>>", .has_tools = true}, "all\nHi"), all);
  EXPECT_EQ(parsed(syntax_of("functionary2"), {.begun = ">>>", .has_tools = true}, "f\n{}"), called);
  EXPECT_EQ(parsed(syntax_of("functionary2"), {.begun = ">>>"}, "all\nHi"), all);
  const std::vector<OutputEvent> expected{{Kind::reasoning, "so"}, {Kind::content, "yes"}};
  EXPECT_EQ(parsed(syntax_of("hermes"), {.begins_in_reasoning = true}, "\nso\n</think>\n\nyes"), expected);
  const std::vector<OutputEvent> text{{Kind::content, "<tool_call>{}"}};
  EXPECT_EQ(parsed(syntax_of("hermes"), {}, "<tool_call>{}"), text) << "without tools nothing is a call";
}

TEST(OutputParser, SignsInAFormThatWasAskedForAreText) {
  const std::string form = "{\"a\": \"<think>x</think> <tool_call>{\\\"name\\\": 1}\"}";
  const std::vector<OutputEvent> held{{Kind::reasoning, "so"}, {Kind::content, form}};
  const OutputEvent begin{Kind::call_begin, "f"}, arguments{Kind::arguments, "{}"}, end{Kind::call_end, ""};
  std::mt19937 random(1);
  for (int i = 0; i < 100; ++i) {
    const OutputParser::Options options{.has_tools = true, .is_held = true, .tools = &tools()};
    EXPECT_EQ(parsed(syntax_of("hermes"), options, "<think>so</think>\n\n" + form, &random), held);
    EXPECT_EQ(parsed(syntax_of("hermes"), options,
                     "\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>", &random),
              (std::vector<OutputEvent>{begin, arguments, end}));
    EXPECT_EQ(parsed(syntax_of("harmony"), options, "<|channel|>final<|message|>\"<|channel|>\"", &random),
              (std::vector<OutputEvent>{{Kind::content, "\"<|channel|>\""}}));
    EXPECT_EQ(parsed(syntax_of("llama"), options, "{\"name\": \"f\", \"parameters\": {}}", &random),
              (std::vector<OutputEvent>{{Kind::content, "{\"name\": \"f\", \"parameters\": {}}"}}));
    EXPECT_EQ(
        parsed(syntax_of("llama"), options, "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}", &random),
        (std::vector<OutputEvent>{begin, arguments, end}));
    EXPECT_EQ(parsed(syntax_of("hermes"), options, "<thin", &random),
              (std::vector<OutputEvent>{{Kind::content, "<thin"}}));
  }
}

// What the published templates make of an earlier call is what their models write: it is read back as it was.
TEST(OutputParser, ReadsWhatTheTemplatesWrite) {
  const fs::path corpus = fs::path(MILLRACE_DATA_DIR) / "corpus";
  if (!fs::exists(corpus / "chat_goldens.json"))
    GTEST_SKIP() << "needs the corpus of published chat templates";
  const Json goldens =
      Json::parse(read_file(corpus / "chat_goldens.json", size_t{1} << 28), "chat_goldens.json");
  size_t n_read = 0;
  for (const auto& [file, renders] : goldens.at("renders").as_object()) {
    const ToolSyntax& syntax =
        syntax_of_template(read_file(corpus / "chat_templates" / file, size_t{1} << 24));
    if (syntax.shape == ToolSyntax::Shape::none) continue;
    for (const auto& [name, question, answer] :
         {std::tuple("tool_call", "Weather in Zürich?", "{\"temp\""),
          std::tuple("parallel_calls", "Find TODOs and read main.cpp", "3 hits")}) {
      const Json *render = renders.find(name), *prompt = renders.find("one_user");
      const Json* text = render == nullptr ? nullptr : render->find("text");
      const Json* prompt_text = prompt == nullptr ? nullptr : prompt->find("text");
      if (text == nullptr || prompt_text == nullptr) continue;
      SCOPED_TRACE(file + " " + name + " " + std::string(syntax.name));
      const std::string& all = text->as_string();
      const size_t begin = all.rfind(question), end = all.find(answer, begin);
      if (begin == std::string::npos || end == std::string::npos) continue;
      std::string_view written =
          std::string_view(all).substr(0, end).substr(begin + std::string_view(question).size());
      // Without what the prompt for an answer ends with.
      if (written.find("get_weather") == std::string_view::npos &&
          written.find("grep") == std::string_view::npos)
        continue;  // the template leaves the call out
      if (std::string_view(name) == "parallel_calls" && written.find("read_file") == std::string_view::npos)
        continue;  // ... or the second one
      const std::string& asked = prompt_text->as_string();
      for (size_t i = 0; i < asked.size(); ++i) {
        if (!written.starts_with(std::string_view(asked).substr(i))) continue;
        written.remove_prefix(asked.size() - i);
        break;
      }
      std::vector<std::pair<std::string, Json>> calls;
      const Json& chat = goldens.at("cases").at(name);
      for (const OutputEvent& event :
           parsed(syntax, {.has_tools = true, .tools = &chat.at("tools")}, written)) {
        if (event.kind == Kind::call_begin) calls.emplace_back(event.text, Json());
        if (event.kind == Kind::arguments) calls.back().second = sorted(Json::parse(event.text, "arguments"));
      }
      std::vector<std::pair<std::string, Json>> expected;
      for (const Json& message : chat.at("messages").as_array()) {
        const Json* made = message.find("tool_calls");
        if (made == nullptr) continue;
        for (const Json& call : made->as_array())
          expected.emplace_back(call.at("function").at("name").as_string(),
                                sorted(call.at("function").at("arguments")));
      }
      EXPECT_EQ(calls, expected) << written;
      ++n_read;
    }
  }
  EXPECT_GE(n_read, 38u);
}

}  // namespace
}  // namespace millrace
