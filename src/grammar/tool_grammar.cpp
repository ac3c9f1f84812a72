#include "grammar/tool_grammar.h"

#include <algorithm>

#include "base/error.h"
#include "grammar/json_schema.h"
#include "grammar/json_text.h"

namespace millrace {
namespace {

using Node = Rules::Node;
using Shape = ToolSyntax::Shape;

class Builder {
 public:
  Builder(Rules& rules, const ToolCalls& calls, const Tokenizer& tokenizer)
      : rules_(rules), calls_(calls), syntax_(calls.syntax), tokenizer_(tokenizer) {}

  Node answer() {
    std::vector<Node> ways;
    for (const Json& tool : calls_.tools) tools_.push_back(named_schema(tool));
    const Node some_calls = rules_.sequence({calls(), after_calls()});
    if (calls_.are_required) {
      // Where a call is the whole answer nothing stands before it.
      const Node before = syntax_.is_whole_answer ? rules_.empty() : around();
      ways.push_back(rules_.sequence({thoughts(), before, some_calls}));
    } else if (syntax_.is_whole_answer) {
      ways.push_back(some_calls);
      ways.push_back(free_text({"{"}, true));
    } else {
      ways.push_back(rules_.sequence({free_text(syntax_.begins, false), rules_.optional(some_calls)}));
    }
    return rules_.choice(std::move(ways));
  }

 private:
  struct Tool {
    std::string name;
    Json schema;
  };

  Tool named_schema(const Json& tool) const {
    const Json* function = tool.find("function");
    if (function == nullptr) function = &tool;
    const Json* name = function->find("name");
    if (name == nullptr || !name->is_string() || name->as_string().empty())
      fail(ErrorKind::usage, "a tool has no name");
    const Json* schema = function->find("parameters");
    Json object = Json::Object();
    object["type"] = "object";
    object["properties"] = Json::Object();
    return {name->as_string(), schema == nullptr || schema->is_null() ? object : *schema};
  }

  // ---- signs

  // Text in which the names of control tokens stand for these.
  std::string seen(std::string_view text) const {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t n = control_token_at(text, at);
      if (n > 0) {
        out += special_token_bytes(text.substr(at, n));
        at += n;
      } else {
        out += text[at++];
      }
    }
    return out;
  }
  size_t control_token_at(std::string_view text, size_t at) const {
    for (size_t n = text.size() - at; n > 2; --n) {
      const auto id = tokenizer_.find_piece(text.substr(at, n));
      if (id && tokenizer_.token_bytes(*id, false).empty()) return n;
    }
    return 0;
  }
  Node sign(std::string_view text) { return rules_.bytes(seen(text)); }
  Node one_of(const std::vector<std::string_view>& texts) {
    std::vector<Node> nodes;
    for (const std::string_view text : texts) nodes.push_back(sign(text));
    return rules_.choice(std::move(nodes));
  }
  Node blanks() {
    CharClass blank(' ', ' ');
    blank.add('\n', '\n');
    return rules_.repeat(rules_.chars(blank), 0, 2);
  }

  // ---- what is not a call

  // Any characters, and the control tokens that the syntax has outside of calls.
  Node anything() {
    std::vector<Node> ways{rules_.chars(CharClass::all())};
    const auto add = [&](const std::vector<std::string_view>& signs) {
      for (const std::string_view text : signs)
        if (seen(text) != text) ways.push_back(sign(text));
    };
    add(syntax_.dropped);
    add(syntax_.reasoning_begins);
    add(syntax_.reasoning_ends);
    return rules_.repeat(rules_.choice(std::move(ways)), 0, Rules::kUnbounded);
  }
  // Anything in which none of the signs stands, or which does not begin with one.
  Node free_text(const std::vector<std::string_view>& signs, bool only_at_start) {
    const Node before = only_at_start ? blanks_of_any_length() : anything();
    return rules_.but_not(anything(), rules_.sequence({before, one_of(signs), anything()}));
  }
  Node blanks_of_any_length() {
    CharClass blank(' ', ' ');
    blank.add('\t', '\t');
    blank.add('\n', '\n');
    blank.add('\r', '\r');
    return rules_.repeat(rules_.chars(blank), 0, Rules::kUnbounded);
  }
  // Where calls are required: reasoning before them, where the family reasons.
  Node thoughts() {
    if (syntax_.reasoning_begins.empty()) return rules_.empty();
    const Node thought = rules_.sequence({free_text(joined(syntax_.reasoning_ends, syntax_.begins), false),
                                          one_of(syntax_.reasoning_ends), blanks()});
    if (calls_.begins_in_reasoning) return thought;
    return rules_.optional(rules_.sequence({one_of(syntax_.reasoning_begins), thought}));
  }
  static std::vector<std::string_view> joined(std::vector<std::string_view> a,
                                              const std::vector<std::string_view>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }

  // ---- calls

  Node calls() {
    if (syntax_.shape == Shape::list) return list_of_calls();
    const Node one = rules_.share("call", one_call());
    const bool is_alone = !calls_.are_parallel || syntax_.is_whole_answer;
    return is_alone
               ? one
               : rules_.sequence({one, rules_.repeat(rules_.sequence({around(), one}), 0, kMaxCalls - 1)});
  }
  Node after_calls() { return around(); }
  // What may stand before, between and behind calls: blanks, and signs that say nothing and do not end the
  // answer.
  Node around() {
    std::vector<std::string_view> signs;
    const auto ends = tokenizer_.end_tokens();
    for (const std::string_view text : syntax_.dropped) {
      const auto id = tokenizer_.find_piece(text);
      if (!id || std::ranges::find(ends, *id) == ends.end()) signs.push_back(text);
    }
    if (signs.empty()) return blanks();
    return rules_.sequence({blanks(), rules_.repeat(rules_.sequence({one_of(signs), blanks()}), 0, 2)});
  }

  Node list_of_calls() {
    const Node object = rules_.share("call", object_call());
    const Node more = rules_.repeat(rules_.sequence({rules_.bytes(","), blanks(), object}), 0, kMaxCalls - 1);
    std::vector<Node> parts{sign(syntax_.begins[0]), blanks(), rules_.bytes("["), blanks(), object};
    if (calls_.are_parallel) parts.push_back(more);
    for (const Node part : {blanks(), rules_.bytes("]"), blanks(), sign(syntax_.end)}) parts.push_back(part);
    return rules_.sequence(std::move(parts));
  }

  Node one_call() {
    if (syntax_.shape == Shape::object) {
      const Node begin =
          syntax_.is_whole_answer ? rules_.optional(one_of(syntax_.begins)) : one_of(syntax_.begins);
      return rules_.sequence({begin, blanks(), object_call(), blanks(), sign(syntax_.end)});
    }
    std::vector<Node> ways;
    for (const Tool& tool : tools_) {
      ways.push_back(rules_.sequence({rules_.bytes(tool.name), behind_name(), arguments(tool)}));
    }
    return rules_.sequence(
        {sign(syntax_.begins[0]), rules_.choice(std::move(ways)), blanks(), sign(syntax_.end)});
  }

  Node object_call() {
    std::vector<Node> ways;
    const Node blank = rules_.optional(rules_.bytes(" "));
    const auto key = [&](std::string_view name) {
      return rules_.sequence({rules_.bytes(json_quoted(name) + ":"), blank});
    };
    // The key that the template's own example has comes first in its family.
    const std::string_view arguments_key = syntax_.is_whole_answer || syntax_.name_key != "name"
                                               ? syntax_.arguments_keys.back()
                                               : syntax_.arguments_keys.front();
    for (const Tool& tool : tools_) {
      ways.push_back(rules_.sequence(
          {rules_.bytes(json_quoted(tool.name) + ","), blank, key(arguments_key), schema(tool)}));
    }
    return rules_.sequence(
        {rules_.bytes("{"), id(), key(syntax_.name_key), rules_.choice(std::move(ways)), rules_.bytes("}")});
  }
  // Command R numbers its calls in the list.
  Node id() {
    if (syntax_.name_key == "name") return rules_.empty();
    return rules_.sequence({rules_.bytes("\"tool_call_id\": \""), digits(), rules_.bytes("\", ")});
  }
  Node digits() { return rules_.repeat(rules_.chars({'0', '9'}), 1, 2); }

  Node behind_name() {
    std::vector<Node> parts;
    if (syntax_.index_begin == ":") parts.insert(parts.end(), {rules_.bytes(":"), digits()});
    if (!syntax_.name_note.empty()) parts.push_back(rules_.optional(sign(syntax_.name_note)));
    if (syntax_.name_end.empty()) parts.push_back(rules_.bytes("\n"));
    parts.push_back(sign(syntax_.name_end));
    return rules_.sequence(std::move(parts));
  }

  Node schema(const Tool& tool) {
    return json_schema(rules_, tool.schema, "the parameters of the tool \"" + printable(tool.name) + "\"");
  }
  Node arguments(const Tool& tool) { return syntax_.shape == Shape::named ? schema(tool) : members(tool); }

  // Each member between its tags: texts as they are, all else as JSON.
  Node members(const Tool& tool) {
    const Json* properties = tool.schema.find("properties");
    const Json* required = tool.schema.find("required");
    std::vector<Rules::Item> items;
    if (properties != nullptr && properties->is_object()) {
      for (const auto& [name, member] : properties->as_object()) {
        const bool is_required =
            required != nullptr && required->is_array() &&
            std::ranges::find(required->as_array(), Json(name)) != required->as_array().end();
        items.push_back(
            {rules_.sequence({sign(syntax_.member_begin), rules_.bytes(name), sign(syntax_.key_end),
                              value(tool, name, member), sign(syntax_.value_end)}),
             !is_required});
      }
    }
    const Node line = rules_.optional(rules_.bytes("\n"));
    return rules_.sequence({line, items.empty() ? rules_.empty() : rules_.list(items, line)});
  }

  Node value(const Tool& tool, const std::string& name, const Json& member) {
    const Json* type = member.find("type");
    const Node line = rules_.optional(rules_.bytes("\n"));
    const Node before =
        syntax_.value_begin.empty() ? line : rules_.sequence({line, sign(syntax_.value_begin)});
    if (type == nullptr || *type != Json("string")) {
      Json rooted = member;  // what it refers to stands in the whole schema
      for (const char* key : {"$defs", "definitions"})
        if (const Json* definitions = tool.schema.find(key)) rooted[key] = *definitions;
      return rules_.sequence({before,
                              json_schema(rules_, rooted,
                                          "the parameters of the tool \"" + printable(tool.name) +
                                              "\", /properties/" + printable(name)),
                              line});
    }
    for (const char* key : {"pattern", "format", "minLength", "maxLength"}) {
      if (member.find(key) != nullptr)
        fail(ErrorKind::usage,
             "the parameters of the tool \"{}\", at /properties/{}: {} cannot be enforced in the tags of "
             "this family",
             printable(tool.name), printable(name), key);
    }
    if (const Json* values = member.find("enum"); values != nullptr && values->is_array()) {
      std::vector<Node> texts;
      for (const Json& each : values->as_array())
        if (each.is_string()) texts.push_back(rules_.bytes(each.as_string()));
      return rules_.sequence({before, rules_.choice(std::move(texts)), line});
    }
    const auto any = [&] { return rules_.repeat(rules_.chars(CharClass::all()), 0, Rules::kUnbounded); };
    const Node text = rules_.but_not(any(), rules_.sequence({any(), rules_.bytes(syntax_.value_end), any()}));
    return rules_.sequence({before, rules_.share("text", text)});
  }

  static constexpr int64_t kMaxCalls = 32;

  Rules& rules_;
  const ToolCalls& calls_;
  const ToolSyntax& syntax_;
  const Tokenizer& tokenizer_;
  std::vector<Tool> tools_;
};

}  // namespace

Rules tool_rules(const ToolCalls& calls, const Tokenizer& tokenizer) {
  if (calls.syntax.shape == Shape::none)
    fail(ErrorKind::usage, "the model's chat template has no syntax for calls of tools");
  if (calls.tools.empty()) fail(ErrorKind::usage, "there are no tools to call");
  Rules rules;
  rules.root = rules.declare("answer");
  rules.define(rules.root, Builder(rules, calls, tokenizer).answer());
  return rules;
}

}  // namespace millrace
