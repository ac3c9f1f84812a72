// The published chat templates, byte for byte, the language, and what a hostile template may not do.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"

namespace millrace {
namespace {

const std::filesystem::path kCorpus = std::filesystem::path(MILLRACE_DATA_DIR) / "corpus";
constexpr size_t kMaxFileBytes = 64 << 20;

Json variables_of(const Json& goldens, const Json& chat) {
  Json variables = goldens.at("special_tokens");
  for (const auto& [name, value] : chat.as_object()) variables[name] = value;
  return variables;
}

std::string rendered(const ChatTemplate& chat_template, const Json& variables, const std::string& now) {
  try {
    return chat_template.render(variables, now);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::runtime);
    return std::string("error: ") + error.what();
  }
}

TEST(ChatTemplate, RendersThePublishedTemplates) {
  if (!std::filesystem::exists(kCorpus / "chat_goldens.json")) {
    GTEST_SKIP() << "needs the corpus of published chat templates (MILLRACE_DATA_DIR)";
  }
  const Json goldens =
      Json::parse(read_file(kCorpus / "chat_goldens.json", kMaxFileBytes), "chat_goldens.json");
  const std::string& now = goldens.at("now").as_string();
  size_t n_renders = 0;
  for (const auto& [file, renders] : goldens.at("renders").as_object()) {
    const ChatTemplate chat_template(read_file(kCorpus / "chat_templates" / file, kMaxFileBytes));
    for (const auto& [name, expected] : renders.as_object()) {
      SCOPED_TRACE(file + " " + name);
      const std::string text =
          rendered(chat_template, variables_of(goldens, goldens.at("cases").at(name)), now);
      if (const Json* wanted = expected.find("text")) {
        EXPECT_EQ(text, wanted->as_string());
      } else {
        EXPECT_TRUE(text.starts_with("error: ")) << text << "\nthe original: " << expected.dump();
      }
      ++n_renders;
    }
  }
  EXPECT_GE(n_renders, 800u);
}

std::string render(std::string_view source, const Json& variables = Json::Object()) {
  return ChatTemplate(source).render(variables, "2025-03-09T14:30:00");
}

// Pairs of a template and what jinja2 makes of it (tests/jinja_test.py wrote them).
std::vector<std::pair<std::string, std::string>> read_cases(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> cases;
  constexpr std::string_view kEnd = "\n---\n", kArrow = "\n>>>\n";
  for (size_t end = text.find(kEnd); end != text.npos; end = text.find(kEnd)) {
    const size_t arrow = text.find(kArrow);
    const size_t begin = arrow + kArrow.size();
    cases.emplace_back(text.substr(0, arrow), text.substr(begin, end - begin));
    text.remove_prefix(end + kEnd.size());
  }
  return cases;
}

TEST(ChatTemplate, SpeaksTheLanguage) {
  const std::filesystem::path data = std::filesystem::path(MILLRACE_SOURCE_DIR) / "tests/data";
  const Json variables = Json::parse(read_file(data / "jinja_variables.json", kMaxFileBytes), "variables");
  const auto cases = read_cases(read_file(data / "jinja_cases.txt", kMaxFileBytes));
  EXPECT_GT(cases.size(), 100u);
  for (const auto& [source, expected] : cases) {
    if (expected == "(raises)") {
      EXPECT_THROW(ChatTemplate(source).render(variables), Error) << source;
      continue;
    }
    try {
      EXPECT_EQ(ChatTemplate(source).render(variables, "2025-03-09T14:30:05"), expected) << source;
    } catch (const Error& error) {
      ADD_FAILURE() << error.what() << "\n" << source;
    }
  }
}

TEST(ChatTemplate, BrokenSourcesAreRefusedWithTheLine) {
  for (const char* source :
       {"{% if %}", "{{ 1 + }}", "{% for x %}{% endfor %}", "{% if true %}", "{{ 'abc }}", "{% nonsense %}",
        "{% include 'x' %}", "{{ (1 }}", "{% endif %}", "{{ 99999999999999999999 }}", "{#", "{% raw %}"}) {
    EXPECT_THROW(ChatTemplate{source}, Error) << source;
  }
  try {
    ChatTemplate("a\nb\n{{ 1 + }}");
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("line 3"), std::string::npos) << error.what();
  }
}

TEST(ChatTemplate, UndefinedOperationsAreErrors) {
  for (const char* source : {"{{ x.y }}", "{{ 1 + 'a' }}", "{{ x() }}", "{{ 1 / 0 }}", "{{ [1].append(2) }}",
                             "{{ raise_exception('no') }}", "{{ {}.a.b }}", "{% set x.y = 1 %}",
                             "{{ 'a' < 1 }}", "{{ none | length }}", "{{ 9223372036854775807 + 1 }}",
                             "{{ 1 | nonsense }}", "{{ 1 is nonsense }}"}) {
    EXPECT_THROW(render(source), Error) << source;
  }
}

std::string repeated(std::string_view text, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}

TEST(ChatTemplate, DeepSourcesAreRefused) {
  const std::string sources[] = {
      "{{ " + repeated("(", 100000) + "1" + repeated(")", 100000) + " }}",
      "{{ " + repeated("[", 100000) + repeated("]", 100000) + " }}",
      "{{ " + repeated("{1:", 100000) + "1" + repeated("}", 100000) + " }}",
      "{{ " + repeated("not ", 100000) + "1 }}",
      "{{ " + repeated("-", 100000) + "1 }}",
      "{{ " + repeated("a if a else ", 100000) + "1 }}",
      "{{ " + repeated("a[", 100000) + "1" + repeated("]", 100000) + " }}",
      "{{ " + repeated("f(", 100000) + "1" + repeated(")", 100000) + " }}",
      repeated("{% if true %}", 10000),
      repeated("{% for x in y %}", 10000),
      repeated("{% macro m() %}", 10000),
      "{% set " + repeated("(", 100000) + "a = 1 %}",
  };
  for (const std::string& source : sources) EXPECT_THROW(ChatTemplate{source}, Error) << source.substr(0, 40);
}

// Chains need no nesting to be parsed, but depth to be evaluated.
TEST(ChatTemplate, LongChainsEnd) {
  const std::string sources[] = {
      "{{ 1" + repeated(" + 1", 100000) + " }}",
      "{{ a" + repeated(".a", 100000) + " }}",
      "{{ 1" + repeated(" | string", 100000) + " }}",
      "{{ 1" + repeated(" and 1", 100000) + " }}",
      "{{ 1" + repeated(" is odd", 1) + repeated(" ** 1", 100000) + " }}",
  };
  for (const std::string& source : sources) EXPECT_THROW(render(source), Error) << source.substr(0, 40);
  EXPECT_EQ(render("{{ ''" + repeated(" ~ 'a'", 10000) + " }}"), repeated("a", 10000));
  EXPECT_EQ(render("{{ 0" + repeated(" + 1", 900) + " }}"), "900");
}

TEST(ChatTemplate, HostileTemplatesEnd) {
  const char* const sources[] = {
      // Size.
      "{{ 'x' * 1000000000000 }}",
      "{{ [[1]] * 1000000000 }}",
      "{{ 'a' | indent(1000000000000) }}",
      "{{ 'a'.center(1000000000000) }}",
      "{{ 'a'.ljust(9223372036854775807) }}",
      "{{ 'a'.zfill(9223372036854775807) }}",
      "{{ '\t'.expandtabs(9223372036854775807) }}",
      "{{ '%1000000000d' % 1 }}",
      "{{ '%.1000000000f' % 1 }}",
      "{{ '{:1000000000}'.format(1) }}",
      "{{ '{:.1000000000f}'.format(1.0) }}",
      "{{ 'ab' | replace('', 'x' * 60000000) | replace('x', 'y' * 60000000) }}",
      "{{ [1] | batch(1000000000000, 0) | list }}",
      "{{ [1] | tojson(indent=1000000000) }}",
      "{{ (('x' * 1000000) ~ ',') * 1000 }}{{ (('x' * 1000000) ~ ',') * 1000 }}",
      "{{ strftime_now('%Y' * 1000000) }}",
      "{{ strftime_now('%999999999d') }}{{ raise_exception('x' * 10000000) }}",
      // Time.
      "{{ range(1000000000000) }}",
      "{{ range(-9223372036854775807, 9223372036854775807) }}",
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{{ [1] | slice(1000000000000) | list }}",
      "{% set ns = namespace(l=range(99999) | list) %}{% for i in range(9999) %}{{ 1 if -1 in ns.l }}{% "
      "endfor %}",
      "{% for i in range(99999) %}{{ ('a' * 100000).find('b') }}{% endfor %}",
      "{% for i in range(99999) %}{{ ('a' * 1000000).split('a') | length }}{% endfor %}",
      "{{ ('a' * 10000000) in ('a' * 5000000 ~ 'b' ~ 'a' * 5000000) }}{{ 1 / 0 }}",
      "{{ ('a' * 10000000).rfind('b' ~ 'a' * 5000000) }}{{ 1 / 0 }}",
      "{% for x in range(99999) recursive %}{{ loop(range(99999)) if loop.depth < 50 }}{% endfor %}",
      // Growth.
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ "
      "ns.l }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ "
      "ns.l | "
      "tojson }}",
      "{% set a = namespace(l=(1,)) %}{% for i in range(60) %}{% set a.l = (a.l, a.l) %}{% endfor %}{{ {a.l: "
      "1} }}",
      "{% set a = namespace(l=[1]) %}{% set b = namespace(l=[1]) %}{% for i in range(60) %}{% set a.l = "
      "[a.l, a.l] "
      "%}{% set b.l = [b.l, b.l] %}{% endfor %}{{ a.l == b.l }}",
      "{% for a in range(9999) %}{{ 'x' * 100000 }}{% endfor %}",
      "{% macro m(s) %}{{ s }}{{ s }}{% endmacro %}{% set ns = namespace(s='x') %}{% for i in range(60) %}{% "
      "set ns.s "
      "= m(ns.s) %}{% endfor %}",
      // Depth.
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l "
      "}}",
      "{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l "
      "== [1] or "
      "ns.l == ns.l[0] }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(90000) %}{% set ns.l = ns.l | map('string') %}{% "
      "endfor %}{{ "
      "ns.l | list }}",
      "{% set ns = namespace() %}{% set ns.self = ns %}{{ ns }}",
      "{% set ns = namespace(s='{') %}{{ ('{:' * 1000 ~ '}' * 1000).format(*range(1000)) }}",
      // Arithmetic.
      "{{ 10 ** 1000000 }}",
      "{{ 9223372036854775807 + 1 }}",
      "{{ -9223372036854775807 - 2 }}",
      "{{ 9223372036854775807 * 9223372036854775807 }}",
      "{{ (-9223372036854775807 - 1) // -1 }}",
      "{{ -(-9223372036854775807 - 1) }}",
      "{{ (-9223372036854775807 - 1) | abs }}",
      "{{ 1e300 | int }}",
      "{{ range(0, 9223372036854775807, 9223372036854775806)[::9223372036854775807] }}",
      "{{ ('a' * 10)[::0] }}",
      // Reach.
      "{{ ''.__class__.__mro__ }}",
      "{{ ().__class__.__bases__[0].__subclasses__() }}",
      "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
      "{{ '{0.__class__.__mro__}'.format(1) }}",
      "{{ [1].append(1) }}",
      "{{ {}.update({}) }}",
  };
  for (const char* source : sources) EXPECT_THROW(render(source), Error) << source;
}

TEST(ChatTemplate, WhatRefersToItselfIsFreed) {
  EXPECT_EQ(render("{% set ns = namespace() %}{% set ns.self = ns %}{% set ns.l = [ns, {'ns': ns}] %}x"),
            "x");
  EXPECT_EQ(render("{% set ns = namespace() %}{% macro m() %}{{ ns }}{% endmacro %}{% set ns.m = m %}x"),
            "x");
  EXPECT_EQ(
      render("{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}x"),
      "x");
}

TEST(ChatTemplate, VariablesAreChecked) {
  Json deep = Json::Array();
  for (int i = 0; i < 1000; ++i) deep = Json::Array{std::move(deep)};
  Json variables;
  variables["x"] = std::move(deep);
  EXPECT_THROW(ChatTemplate("{{ x }}").render(variables), Error);
  EXPECT_EQ(ChatTemplate("{{ y }}").render(variables), "");  // what is not named is not looked at
  variables["x"] = std::string("broken \xff");
  EXPECT_THROW(ChatTemplate("{{ x }}").render(variables), Error);
  EXPECT_THROW(ChatTemplate("{{ strftime_now('%Y') }}").render(Json::Object(), "yesterday"), Error);
}

TEST(ChatTemplate, SaysWhatAndWhere) {
  const auto error_of = [](std::string_view source) -> std::string {
    try {
      render(source);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(error_of("a\n{{ 1 +* 2 }}"),
            "the chat template is broken at line 2, column 7: expected an expression, found '*'");
  EXPECT_EQ(error_of("a\n\n{% if x.y.z %}{% endif %}"),
            "the chat template fails at line 3: 'x' is undefined");
  EXPECT_EQ(error_of("\n{{ raise_exception('no system role') }}"),
            "the chat template refuses these messages (line 2): no system role");
  EXPECT_EQ(
      error_of("{% include 'x' %}"),
      "the chat template is broken at line 1, column 4: 'include' needs other files, which a chat template "
      "cannot reach");
}

}  // namespace
}  // namespace millrace
