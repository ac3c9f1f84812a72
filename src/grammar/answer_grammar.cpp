#include "grammar/answer_grammar.h"

#include <algorithm>

#include "base/error.h"
#include "grammar/json_formats.h"
#include "grammar/json_schema.h"
#include "grammar/json_text.h"
#include "grammar/regex.h"

namespace millrace {
namespace {

using Node = Rules::Node;
using Shape = ToolSyntax::Shape;

size_t control_token_at(std::string_view text, size_t at, const Tokenizer& tokenizer) {
  for (size_t n = text.size() - at; n > 2; --n) {
    const auto id = tokenizer.find_piece(text.substr(at, n));
    if (id && tokenizer.token_bytes(*id, false).empty()) return n;
  }
  return 0;
}

// A text with its control tokens under special_token_bytes().
std::string seen_by_grammars(std::string_view text, const Tokenizer& tokenizer) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t n = control_token_at(text, at, tokenizer);
    if (n > 0) {
      out += special_token_bytes(text.substr(at, n));
      at += n;
    } else {
      out += text[at++];
    }
  }
  return out;
}

class Builder {
 public:
  Builder(Rules& rules, const AnswerForm& form, const Tokenizer& tokenizer)
      : rules_(rules),
        form_(form),
        syntax_(form.syntax),
        tokenizer_(tokenizer),
        may_reason_(form.may_reason && !form.syntax.reasoning_begins.empty()) {
    for (const Json& tool : form.tools) tools_.push_back(named_schema(tool));
  }

  Node with_calls() {
    if (!form_.begun.empty()) return behind_begun(nullptr);
    const Node some_calls = rules_.sequence({calls(), around()});
    // Where a call is the whole answer nothing stands before it.
    const Node before = syntax_.is_whole_answer ? rules_.empty() : around();
    if (form_.are_required) return rules_.sequence({thoughts(), before, some_calls});
    if (syntax_.is_whole_answer) return rules_.choice({some_calls, no_call()});
    return free_until(some_calls);
  }

  // `content`: what the client wants the answer to be.
  Node with_content(Node content) {
    if (!form_.begun.empty()) return behind_begun(&content);
    std::vector<Node> ways{rules_.sequence({signs(), content})};
    if (!tools_.empty()) ways.push_back(rules_.sequence({around(), calls(), around()}));
    return rules_.sequence({thoughts(), rules_.choice(std::move(ways))});
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

  Node sign(std::string_view text) { return rules_.bytes(seen_by_grammars(text, tokenizer_)); }
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

  // Behind the sign that opens a part, which stands in the prompt: a tool's name and its call, or text.
  Node behind_begun(const Node* content) {
    std::vector<Node> ways;
    if (!tools_.empty()) {
      const Node more =
          form_.are_parallel
              ? rules_.repeat(rules_.sequence({around(), rules_.share("call", one_call())}), 0, kMaxCalls - 1)
              : rules_.empty();
      ways.push_back(rules_.sequence({named_call(), more, around()}));
    }
    if (!form_.are_required) {
      const Node text = content != nullptr ? *content : free_until(rules_.sequence({calls(), around()}));
      ways.push_back(rules_.sequence({rules_.bytes(syntax_.text_name), sign(syntax_.name_end), text}));
    }
    return rules_.choice(std::move(ways));
  }

  // ---- what is not a call

  // Any characters, and the control tokens that the syntax has outside of calls.
  Node anything() {
    std::vector<Node> ways{rules_.chars(CharClass::all())};
    const auto add = [&](const std::vector<std::string_view>& signs) {
      for (const std::string_view text : signs)
        if (seen_by_grammars(text, tokenizer_) != text) ways.push_back(sign(text));
    };
    add(silent_signs());
    add(syntax_.reasoning_begins);
    add(syntax_.reasoning_ends);
    return rules_.repeat(rules_.choice(std::move(ways)), 0, Rules::kUnbounded);
  }
  // Anything in which none of the signs stands.
  Node free_text(const std::vector<std::string_view>& signs) {
    return rules_.but_not(anything(), rules_.sequence({anything(), one_of(signs), anything()}));
  }
  // What does not begin as a call without a sign does.
  Node no_call() {
    Node begin = rules_.bytes("{");
    if (syntax_.shape == Shape::python) {
      CharClass name('a', 'z');
      for (const auto& [first, last] : {std::pair('A', 'Z'), {'0', '9'}, {'_', '_'}, {'-', '-'}, {'.', '.'}})
        name.add(static_cast<uint8_t>(first), static_cast<uint8_t>(last));
      begin = rules_.sequence({rules_.bytes("["), blanks_of_any_length(),
                               rules_.repeat(rules_.chars(name), 1, Rules::kUnbounded), rules_.bytes("(")});
    }
    return rules_.but_not(free_text(syntax_.begins),
                          rules_.sequence({blanks_of_any_length(), begin, anything()}));
  }
  Node blanks_of_any_length() {
    CharClass blank(' ', ' ');
    blank.add('\t', '\t');
    blank.add('\n', '\n');
    blank.add('\r', '\r');
    return rules_.repeat(rules_.chars(blank), 0, Rules::kUnbounded);
  }
  // The reasoning before what must come, where the family reasons.
  Node thoughts() {
    if (!may_reason_) return rules_.empty();
    const Node thought = rules_.sequence({free_text(joined(syntax_.reasoning_ends, syntax_.begins)),
                                          one_of(syntax_.reasoning_ends), blanks()});
    if (form_.begins_in_reasoning) return thought;
    return rules_.optional(rules_.sequence({one_of(syntax_.reasoning_begins), thought}));
  }
  // Text and reasoning in turns, until calls come where text could go on; in reasoning nothing is a call.
  Node free_until(Node some_calls) {
    if (!may_reason_) return rules_.sequence({free_text(syntax_.begins), rules_.optional(some_calls)});
    const Node text = free_text(joined(syntax_.begins, syntax_.reasoning_begins));
    const Node open = free_text(syntax_.reasoning_ends);
    const Node closed = rules_.sequence({open, one_of(syntax_.reasoning_ends)});
    const Node more = rules_.repeat(rules_.sequence({one_of(syntax_.reasoning_begins), closed, text}), 0,
                                    Rules::kUnbounded);
    const Node first = form_.begins_in_reasoning ? rules_.sequence({closed, text}) : text;
    const Node turns = rules_.sequence({first, more});
    std::vector<Node> ways{rules_.sequence({turns, rules_.optional(some_calls)}),
                           rules_.sequence({turns, one_of(syntax_.reasoning_begins), open})};
    if (form_.begins_in_reasoning) ways.push_back(open);
    return rules_.choice(std::move(ways));
  }
  static std::vector<std::string_view> joined(std::vector<std::string_view> a,
                                              const std::vector<std::string_view>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }

  // ---- calls

  Node calls() {
    if (syntax_.shape == Shape::list) return list_of_calls(sign(syntax_.begins[0]), object_call());
    if (syntax_.shape == Shape::python) return list_of_calls(begin_sign(), function_call());
    const Node one = rules_.share("call", one_call());
    const bool is_alone = !form_.are_parallel || syntax_.is_whole_answer;
    return is_alone
               ? one
               : rules_.sequence({one, rules_.repeat(rules_.sequence({around(), one}), 0, kMaxCalls - 1)});
  }
  bool ends_answer(std::string_view sign) const {
    const auto id = tokenizer_.find_piece(sign);
    return id && std::ranges::find(form_.end_tokens, *id) != form_.end_tokens.end();
  }
  // Those that say nothing and do not end the answer.
  std::vector<std::string_view> silent_signs() const {
    std::vector<std::string_view> out = silent_signs_of(syntax_);
    std::erase_if(out, [&](std::string_view text) { return ends_answer(text); });
    return out;
  }
  // Behind a call; one that ends the answer, too, is not waited for.
  Node end_sign() { return ends_answer(syntax_.end) ? rules_.empty() : sign(syntax_.end); }
  Node signs() {
    const auto silent = silent_signs();
    return silent.empty() ? rules_.empty() : rules_.repeat(one_of(silent), 0, 2);
  }
  // What may stand before, between and behind calls: blanks and such signs.
  Node around() {
    const auto silent = silent_signs();
    if (silent.empty()) return blanks();
    return rules_.sequence({blanks(), rules_.repeat(rules_.sequence({one_of(silent), blanks()}), 0, 2)});
  }

  Node list_of_calls(Node begin, Node call) {
    const Node one = rules_.share("call", call);
    std::vector<Node> parts{begin, blanks(), rules_.bytes("["), blanks(), one};
    if (form_.are_parallel)
      parts.push_back(rules_.repeat(rules_.sequence({rules_.bytes(","), blanks(), one}), 0, kMaxCalls - 1));
    const Node end = syntax_.is_whole_answer ? rules_.optional(end_sign()) : end_sign();
    for (const Node part : {blanks(), rules_.bytes("]"), blanks(), end}) parts.push_back(part);
    return rules_.sequence(std::move(parts));
  }

  // Before a call that is the whole answer there may be none, unless it may be what the client asked for.
  Node begin_sign() {
    const bool needs_sign = !syntax_.is_whole_answer || (form_.content != nullptr && !form_.are_required);
    return needs_sign ? one_of(syntax_.begins) : rules_.optional(one_of(syntax_.begins));
  }

  Node one_call() {
    if (syntax_.shape == Shape::object)
      return rules_.sequence({begin_sign(), blanks(), object_call(), blanks(), end_sign()});
    return rules_.sequence({sign(syntax_.begins[0]), named_call()});
  }
  // A call behind its sign.
  Node named_call() {
    std::vector<Node> ways;
    for (const Tool& tool : tools_) {
      ways.push_back(rules_.sequence({rules_.bytes(tool.name), behind_name(), arguments(tool)}));
    }
    return rules_.sequence({rules_.choice(std::move(ways)), blanks(), end_sign()});
  }

  // name(key=value, ...)
  Node function_call() {
    std::vector<Node> ways;
    for (const Tool& tool : tools_) {
      std::vector<Rules::Item> items;
      for (const Member& member : members_of(tool)) {
        items.push_back({rules_.sequence({rules_.bytes(member.name + "="), member_schema(tool, member)}),
                         member.is_optional});
      }
      ways.push_back(rules_.sequence({rules_.bytes(tool.name + "("),
                                      items.empty() ? rules_.empty() : rules_.list(items, rules_.bytes(", ")),
                                      rules_.bytes(")")}));
    }
    return rules_.choice(std::move(ways));
  }

  Node object_call() {
    std::vector<Node> ways;
    const Node blank = rules_.optional(rules_.bytes(" "));
    const auto key = [&](std::string_view name) {
      return rules_.sequence({rules_.bytes(json_quoted(name) + ":"), blank});
    };
    for (const Tool& tool : tools_) {
      if (syntax_.name_key.empty()) {
        ways.push_back(rules_.sequence({key(tool.name), schema(tool)}));
      } else {
        ways.push_back(rules_.sequence({rules_.bytes(json_quoted(tool.name) + ","), blank,
                                        key(syntax_.arguments_keys.front()), schema(tool)}));
      }
    }
    const Node name = syntax_.name_key.empty() ? rules_.empty() : key(syntax_.name_key);
    return rules_.sequence(
        {rules_.bytes("{"), number(), name, rules_.choice(std::move(ways)), rules_.bytes("}")});
  }
  Node number() {
    if (!syntax_.numbers_calls) return rules_.empty();
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

  struct Member {
    std::string name;
    const Json& schema;
    bool is_optional;
  };
  static std::vector<Member> members_of(const Tool& tool) {
    const Json* properties = tool.schema.find("properties");
    const Json* required = tool.schema.find("required");
    std::vector<Member> out;
    if (properties == nullptr || !properties->is_object()) return out;
    for (const auto& [name, member] : properties->as_object()) {
      const bool is_required =
          required != nullptr && required->is_array() &&
          std::ranges::find(required->as_array(), Json(name)) != required->as_array().end();
      out.push_back({name, member, !is_required});
    }
    return out;
  }

  // Each member between its tags: texts as they are, all else as JSON.
  Node members(const Tool& tool) {
    std::vector<Rules::Item> items;
    for (const Member& member : members_of(tool)) {
      items.push_back({rules_.sequence({sign(syntax_.member_begin), rules_.bytes(member.name),
                                        sign(syntax_.key_end), value(tool, member)}),
                       member.is_optional});
    }
    const bool is_object = syntax_.shape == Shape::braces;
    const Node line = rules_.optional(rules_.bytes("\n"));
    const Node list =
        items.empty() ? rules_.empty() : rules_.list(items, is_object ? rules_.bytes(",") : line);
    return is_object ? rules_.sequence({list, rules_.bytes("}")}) : rules_.sequence({line, list});
  }

  Node member_schema(const Tool& tool, const Member& member) {
    Json rooted = member.schema;  // what it refers to stands in the whole schema
    for (const char* key : {"$defs", "definitions"})
      if (const Json* definitions = tool.schema.find(key)) rooted[key] = *definitions;
    return json_schema(
        rules_, rooted,
        "the parameters of the tool \"" + printable(tool.name) + "\", /properties/" + printable(member.name),
        {.has_free_space = syntax_.shape != Shape::braces, .style = value_style()});
  }
  // How values inside of calls are written where that is not as JSON.
  JsonStyle value_style() const {
    if (syntax_.shape == Shape::python) return {.words = {"True", "False", "None"}};
    if (syntax_.shape == Shape::braces)
      return {.quote = seen_by_grammars(syntax_.value_begin, tokenizer_), .has_bare_keys = true};
    return {};
  }

  // A value between tags, and in braces.
  Node value(const Tool& tool, const Member& member) {
    if (syntax_.shape == Shape::braces) return member_schema(tool, member);
    const Json* type = member.schema.find("type");
    const bool is_text = type != nullptr && *type == Json("string");
    const Node line = syntax_.json_begin.empty() ? rules_.optional(rules_.bytes("\n")) : rules_.empty();
    const std::string_view begin =
        is_text || syntax_.json_begin.empty() ? syntax_.value_begin : syntax_.json_begin;
    const Node before = begin.empty() ? line : rules_.sequence({line, sign(begin)});
    const Node end = sign(syntax_.value_end);
    if (!is_text) return rules_.sequence({before, member_schema(tool, member), line, end});
    if (const Json* values = member.schema.find("enum"); values != nullptr && values->is_array()) {
      std::vector<Node> texts;
      for (const Json& each : values->as_array())
        if (each.is_string()) texts.push_back(rules_.bytes(each.as_string()));
      return rules_.sequence({before, rules_.choice(std::move(texts)), line, end});
    }
    return rules_.sequence({before, rules_.share("text", text(member.schema)), end});
  }

  // What the schema of a string accepts, as it is, without the sign that ends it.
  Node text(const Json& schema) {
    const auto length = [&](const char* key, int64_t otherwise) {
      const Json* given = schema.find(key);
      return given != nullptr && given->is_int() ? given->as_int() : otherwise;
    };
    const auto any = [&] { return rules_.repeat(rules_.chars(CharClass::all()), 0, Rules::kUnbounded); };
    const Node length_fits = rules_.repeat(rules_.chars(CharClass::all()), length("minLength", 0),
                                           length("maxLength", Rules::kUnbounded));
    Node out = rules_.but_not(length_fits, rules_.sequence({any(), rules_.bytes(syntax_.value_end), any()}));
    if (const Json* pattern = schema.find("pattern"); pattern != nullptr && pattern->is_string())
      out = rules_.both(out, regex(rules_, pattern->as_string(), Matched::somewhere, Spelling::plain));
    const Json* format = schema.find("format");
    const std::string_view known = format != nullptr && format->is_string()
                                       ? pattern_of_format(format->as_string())
                                       : std::string_view();
    return known.empty() ? out : rules_.both(out, regex(rules_, known, Matched::whole, Spelling::plain));
  }

  static constexpr int64_t kMaxCalls = 32;

  Rules& rules_;
  const AnswerForm& form_;
  const ToolSyntax& syntax_;
  const Tokenizer& tokenizer_;
  const bool may_reason_;
  std::vector<Tool> tools_;
};

}  // namespace

Rules answer_rules(const AnswerForm& form, const Tokenizer& tokenizer) {
  if (form.tools.empty() && (form.are_required || form.content == nullptr))
    fail(ErrorKind::usage, "there are no tools to call");
  if (!form.tools.empty() && form.syntax.shape == Shape::none)
    fail(ErrorKind::usage, "the model's chat template has no syntax for calls of tools");
  Rules rules = form.content == nullptr ? Rules() : rules_of(*form.content);
  const Rules::Rule content = rules.root;
  rules.root = rules.declare("answer");
  Builder builder(rules, form, tokenizer);
  const bool is_free = form.content == nullptr || form.are_required;
  rules.define(rules.root, is_free ? builder.with_calls() : builder.with_content(rules.call(content)));
  return rules;
}

std::string key_of(const AnswerForm& form) {
  std::string key = "answer ";
  for (const bool flag : {form.are_required, form.are_parallel, form.begins_in_reasoning, form.may_reason})
    key += flag ? '1' : '0';
  key += std::string(form.syntax.name) + ' ' + std::string(form.begun) + ' ' + Json(form.tools).dump();
  for (const int32_t token : form.end_tokens) key += ' ' + std::to_string(token);
  return form.content == nullptr ? key : key + key_of(*form.content);
}

}  // namespace millrace
