// The published chat templates, byte for byte, and what a hostile one may not do.
#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"

namespace millrace {
namespace {

std::string rendered(std::string_view source, const Json& variables = Json::Object()) {
  return ChatTemplate(source).render(variables, "2025-03-09T14:30:00");
}

TEST(ChatTemplate, RendersThePublishedOnes) {
  const std::filesystem::path corpus = std::filesystem::path(MILLRACE_DATA_DIR) / "corpus";
  if (!std::filesystem::exists(corpus / "chat_goldens.json"))
    GTEST_SKIP() << "no chat_goldens.json in " << corpus;
  const Json goldens =
      Json::parse(read_file(corpus / "chat_goldens.json", size_t{64} << 20), "chat_goldens.json");
  const Json& special = goldens.at("special_tokens");
  int n = 0;
  for (const auto& [name, renders] : goldens.at("renders").as_object()) {
    std::string file = name.ends_with(".jinja") ? name : name + ".jinja";
    const ChatTemplate chat(read_file(corpus / "chat_templates" / file, size_t{1} << 20));
    for (const auto& [case_name, expected] : renders.as_object()) {
      Json variables = goldens.at("cases").at(case_name);
      for (const auto& [key, value] : special.as_object()) {
        if (variables.find(key) == nullptr) variables[key] = value;
      }
      std::string text;
      bool has_failed = false;
      try {
        text = chat.render(variables, goldens.at("now").as_string());
      } catch (const Error& error) {
        has_failed = true;
        text = error.what();
      }
      ++n;
      EXPECT_EQ(has_failed, expected.find("error") != nullptr) << name << " " << case_name << ": " << text;
      if (!has_failed && expected.find("text") != nullptr) {
        EXPECT_EQ(text, expected.at("text").as_string()) << name << " " << case_name;
      }
    }
  }
  EXPECT_GT(n, 100);
}

struct Example {
  const char* source;
  const char* text;
};

// Expected texts as jinja2 3.1.2 gives them.
constexpr Example kExamples[] = {
    {"{{ 1 + 2 * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }}",
     "7 3 -4 2 3.5 1024"},
    {"{{ 'a' ~ 1 ~ none }}{{ undefined_name }}", "a1None"},
    {"{{ [1, 'a', none, true, 1.0, {'b': (1,)}] }}", "[1, 'a', None, True, 1.0, {'b': (1,)}]"},
    {"{% for x in [1,2,3] %}{{ loop.index }}/{{ loop.length }}:{{ x }}{% if not loop.last %}, {% endif %}{% "
     "else %}none{% endfor %}",
     "1/3:1, 2/3:2, 3/3:3"},
    {"{% for x in [] %}{% else %}none{% endfor %}", "none"},
    {"{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}", "a=1;b=2;"},
    {"{% for x in range(10) if x is odd %}{% if x > 6 %}{% break %}{% endif %}{{ x }}{% endfor %}", "135"},
    {"{% set ns = namespace(n=0) %}{% for x in [1,2] %}{% set ns.n = ns.n + x %}{% set y = x %}{% endfor "
     "%}{{ ns.n }}{{ y is defined }}",
     "3False"},
    {"{% macro m(a, b='x') %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, b=2) }}", "[1x][12]"},
    {"{% macro box() %}<{{ caller() }}>{% endmacro %}{% set q = 5 %}{% call box() %}in{{ q }}{% endcall %}",
     "<in5>"},
    {"{{ 'hello world'[1:4] }} {{ 'abc'[::-1] }} {{ [1,2,3][-1] }} {{ 'abc'[5] is defined }}",
     "ell cba 3 False"},
    {"{{ 'a,b,c'.split(',') | join('-') }} {{ '  x '.strip() }}| {{ 'Abc'.upper() }} {{ 'x' in 'xyz' }}",
     "a-b-c x| ABC True"},
    {"{{ {'b': 1, 'a': [1.5, null_value, true]} | tojson }}", "{\"b\": 1, \"a\": [1.5, null, true]}"},
    {"{{ {'a': {'b': 1}} | tojson(indent=2) }}", "{\n  \"a\": {\n    \"b\": 1\n  }\n}"},
    {"{{ [3,1,2] | sort | first }}{{ ['b','A'] | sort | join }}{{ [1,2,3,4] | select('even') | list }}",
     "1Ab[2, 4]"},
    {"{{ [{'n':1},{'n':2}] | map(attribute='n') | sum }} {{ [{'n':1},{'n':2}] | selectattr('n', 'gt', 1) | "
     "list | length }}",
     "3 1"},
    {"  {%- if true -%}  x  {%- endif %}\n  y", "x  y"},
    {"a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc"},
    {"{% raw %}{{ x }}{% endraw %}{# comment #}", "{{ x }}"},
    {"{{ 'yes' if 1 < 2 <= 2 else 'no' }}{{ x.y if x is defined }}", "yes"},
    {"{% set t %}a{{ 1 }}b{% endset %}{{ t | upper }}{% filter upper %}c{% endfilter %}", "A1BC"},
    {"{{ x | default('d') }}{{ '' | default('e', true) }}{{ 3.0 }}{{ 1e20 }}{{ 0.1 + 0.2 }}",
     "de3.01e+200.30000000000000004"},
    {"{{ strftime_now('%d %b %Y') }}", "09 Mar 2025"},
    {"{{ '%s-%05.1f-%d' | format('a', 2.25, 7) }} {{ 'a%sb' % 1 }}", "a-002.2-7 a1b"},
    {"{% generation %}g{% endgeneration %}{% with a = 1 %}{{ a }}{% endwith %}", "g1"},
    {"{% for a in [[1,[2]]] recursive %}{{ a[0] if a is not number else a }}{% if a is not number %}{{ "
     "loop(a[1]) }}{% endif %}{% endfor %}",
     "12"},
    {"{{ 'äöü' | length }}{{ 'äöü' | upper }}{{ 'äöü'[1] }}", "3ÄÖÜö"},
    {"{{ not true or true and false }}{{ 1 if none else 2 }}{{ 'a' not in ['b'] }}", "False2True"},
};

TEST(ChatTemplate, SpeaksTheLanguage) {
  Json variables;
  variables["null_value"] = nullptr;
  for (const auto& [source, text] : kExamples) EXPECT_EQ(rendered(source, variables), text) << source;
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
    EXPECT_THROW(rendered(source), Error) << source;
  }
}

TEST(ChatTemplate, HostileTemplatesEnd) {
  const std::string deep_brackets = "{{ " + std::string(100000, '(') + "1" + std::string(100000, ')') + " }}";
  const std::string deep_not = "{{ " + [] {
    std::string s;
    for (int i = 0; i < 100000; ++i) s += "not ";
    return s;
  }() + "1 }}";
  std::string deep_if;
  for (int i = 0; i < 10000; ++i) deep_if += "{% if true %}";
  const std::string sources[] = {
      deep_brackets,
      deep_not,
      deep_if,
      "{{ 'x' * 1000000000000 }}",
      "{{ range(1000000000000) }}",
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      "{% for a in range(9999) %}{{ 'x' * 100000 }}{% endfor %}",
      "{{ [[1]] * 1000000000 }}",
      "{{ 'a' | indent(1000000000000) }}",
      "{{ 10 ** 1000000 }}",
      "{% set ns = namespace(l=[]) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l "
      "}}",
      "{{ 'ab' | replace('', 'x' * 60000000) }}"};
  for (const std::string& source : sources) EXPECT_THROW(rendered(source), Error) << source.substr(0, 80);
}

}  // namespace
}  // namespace millrace
