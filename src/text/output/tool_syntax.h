// How a family writes tool calls and reasoning into its text: one small file each in syntaxes/, recognised by
// what the chat template says.
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace millrace {

// Texts are as they are with control tokens shown. Blanks and line ends between the parts of a call do not
// matter.
struct ToolSyntax {
  enum class Shape {
    none,     // there are no calls
    object,   // {"name": ..., "arguments": {...}}
    list,     // [{"name": ..., "arguments": {...}}, ...]; [{NAME: {...}}, ...] where `name_key` is empty
    named,    // the name, then {...}
    members,  // the name, then each member between tags of its own
    braces,   // the name, then {key:value,...}, the keys without quotes
    python,   // [name(key=value, ...), ...], the values as Python writes them
  };

  std::string_view name;
  // The template belongs to the syntax where it holds all of these and none of the others.
  std::vector<std::string_view> marks, others{};

  Shape shape = Shape::none;
  std::vector<std::string_view> begins{};           // each opens a call, the longest that fits
  std::string_view end{};                           // behind the call
  std::string_view section_begin{}, section_end{};  // around all calls; they may be missing
  std::string_view name_key = "name";
  std::vector<std::string_view> arguments_keys = {"arguments", "parameters"};
  std::string_view name_end{};     // of all but `object` and `list`: behind the name...
  std::string_view name_note{};    // ... and before that a text that may stand there and says nothing...
  std::string_view index_begin{};  // ... or a sign and a number (":0"), part of the id
  bool numbers_calls = false;      // of `list`: "tool_call_id" stands before the name
  bool is_whole_answer = false;    // of `object` and `python`: a call needs no sign, and is the whole answer
  std::string_view text_name{};    // of `named`: what stands in the place of a name before text
  // Of `members`, and, where texts alone stand between the signs, of `braces`.
  std::string_view member_begin{}, key_end{}, value_begin{};
  std::string_view json_begin{};  // of values that are no text, where they begin otherwise
  std::string_view value_end{};

  std::vector<std::string_view> reasoning_begins{}, reasoning_ends{};
  std::vector<std::string_view> dropped{};  // texts around all of this that say nothing
};

// What may stand around text and calls and says nothing.
std::vector<std::string_view> silent_signs_of(const ToolSyntax& syntax);
// All texts of which its calls and its reasoning are made.
std::vector<std::string_view> signs_of(const ToolSyntax& syntax);

// All of them, those that ask for more first.
std::span<const ToolSyntax* const> tool_syntaxes();

// The syntax of a template; the plain one (no calls, reasoning in <think>) where none fits.
const ToolSyntax& syntax_of_template(std::string_view source);

}  // namespace millrace
