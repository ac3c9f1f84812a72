// What a model writes, taken apart as it comes: the answer, the reasoning, the tool calls.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/output/tool_syntax.h"

namespace millrace {

struct OutputEvent {
  enum class Kind {
    content,     // more of the answer
    reasoning,   // more of the reasoning
    call_begin,  // a call: `text` is the name of the tool
    arguments,   // more of its arguments, JSON
    call_end,
  };
  Kind kind;
  std::string text;

  bool operator==(const OutputEvent&) const = default;
};

// One per answer, used by one thread. Takes linear time, and never fails: what is no call is content, and a
// call that breaks off ends where it does. However the text is cut, the events give the same when those of
// one kind that follow each other are joined.
class OutputParser {
 public:
  struct Options {
    std::string_view begun{};          // a sign at the end of the prompt that is part of the answer
    bool begins_in_reasoning = false;  // the prompt ended with the sign that begins it
    bool has_reasoning = true;         // else its signs are content
    bool has_tools = false;            // else what looks like a call is content
    bool is_held = false;              // to a form that a client asked for: in it no sign says anything
    const Json* tools = nullptr;       // as OpenAI's: for syntaxes whose values do not show their types
  };
  // `syntax` and the tools must outlive the parser.
  OutputParser(const ToolSyntax& syntax, const Options& options);

  // More text: whole characters, control tokens shown.
  std::vector<OutputEvent> push(std::string_view text);
  // The end: what was held back.
  std::vector<OutputEvent> flush();

  bool is_in_reasoning() const { return state_ == State::reasoning; }

 private:
  enum class State {
    begin,
    content,
    reasoning,
    open,
    list,
    object,
    name,
    arguments,
    members,
    key,
    value,
    braces,
    keywords,
    close
  };
  // Of the text of a JSON value, byte by byte.
  struct JsonScan {
    int depth = 0;
    bool is_in_string = false, is_escaped = false, has_begun = false;
    // Whether the value ends with this byte (of a number or a name: before it).
    bool takes(char c);
  };

  bool step(bool is_last);
  bool step_text(bool is_last);
  bool is_in_form(bool is_last);
  bool step_begin(bool is_last);
  bool step_open();
  bool step_list();
  bool step_object();
  bool step_name();
  bool step_arguments();
  bool step_members();
  bool step_key();
  bool step_value(bool is_last);
  bool step_braces();
  bool step_keywords();
  bool step_close(bool is_last);

  void emit(OutputEvent::Kind kind, std::string_view text);
  void forget_call();
  void begin_call(std::string_view name);
  void end_call();
  bool skip_blanks();
  bool take(std::string_view token);
  // The first of the texts in what is pending, or where the beginning of one may stand at its end.
  struct Found {
    size_t at;
    std::string_view token;  // empty: none is whole
  };
  Found find(const std::vector<std::string_view>& tokens, bool is_last) const;
  // The text before the token, which is taken, too; nothing where it is not there yet.
  std::optional<std::string> take_up_to(std::string_view token);
  std::optional<std::string> take_json_up_to(std::string_view token);
  static State state_behind_name(ToolSyntax::Shape shape);
  bool is_arguments_key() const;
  bool is_text_member() const;
  std::optional<bool> begins_as_json() const;
  std::string member_json(const std::string& value) const;

  const ToolSyntax& syntax_;
  Options options_;
  State state_ = State::content;
  std::string pending_;
  std::vector<OutputEvent> events_;
  std::vector<std::string_view> watched_;  // in content
  bool is_in_call_ = false, is_in_list_ = false;
  bool has_begun_form_ = false;
  bool trims_;               // blanks behind a sign say nothing...
  std::string held_blanks_;  // ... nor do those before one
  // Of the call:
  JsonScan scan_;
  std::string key_, name_, early_arguments_;
  size_t n_members_ = 0;
  std::optional<bool> is_json_member_;
  bool is_in_text_ = false;      // of `braces`: between the signs of a text
  char python_quote_ = '\0';     // of `keywords`: the sign that ends the text, where one has begun
  bool has_open_quote_ = false;  // in a value before: from then on each ends at the first tag
  size_t n_searched_ = 0;  // of what is pending, where the token that take_up_to() waits for does not begin
};

}  // namespace millrace
