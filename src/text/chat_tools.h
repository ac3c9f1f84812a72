// Tools and reasoning as a chat template knows them, which is found by trying it; and conversations with
// tools in the words that it has. What it does not write itself is put in its messages: the tools in that of
// the system, calls in those of the assistant, in the syntax of the family, results in those of the user.
#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

#include "text/chat_prompt.h"
#include "text/output/tool_syntax.h"

namespace millrace {

// const after it is made; any thread may use it.
class ChatTools {
 public:
  // `source`: of the template of `chat`.
  ChatTools(const ChatPrompt& chat, std::string_view source, const Tokenizer& tokenizer);

  // How the model writes calls and reasoning.
  const ToolSyntax& syntax() const { return syntax_; }
  // Whether the template speaks of reasoning.
  bool has_reasoning() const { return has_reasoning_; }
  // A control token of which calls and reasoning are made.
  bool is_sign(int32_t token) const { return std::ranges::binary_search(sign_tokens_, token); }
  // What the template itself writes; calls and results, or results alone, or neither.
  bool tells_tools() const { return tells_tools_; }
  bool writes_calls() const { return writes_calls_; }
  bool writes_results() const { return writes_results_; }

  // Where a prompt leaves the answer; `begun`: the beginning of it that stands at the end of the prompt.
  struct PromptEnd {
    bool may_reason = false;    // or reasons already
    bool is_reasoning = false;  // the sign that begins it is there
    std::string_view sign{};    // that opens a call or a text, where the prompt ends with it
  };
  PromptEnd end_of(std::string_view prompt, std::string_view begun = {}) const;

  // `messages` as OpenAI's API has them, but with the arguments of calls as objects. `variables` may hold
  // `tools`.
  void adapt(Json::Array& messages, Json& variables) const;

 private:
  void try_tools(const ChatPrompt& chat);
  void fit_calls(Json::Array& messages) const;
  Json::Array put_in_words(Json::Array messages) const;
  void tell_tools(Json::Array& messages, const Json::Array& tools) const;

  ToolSyntax syntax_;
  std::vector<int32_t> sign_tokens_;  // ascending
  bool has_reasoning_;
  bool tells_tools_ = false, writes_calls_ = false, writes_results_ = false;
  bool tells_in_system_ = false;       // where its message has them, as a text in `tools`
  bool wants_text_arguments_ = false;  // JSON in a string, as OpenAI's API has it
  bool wants_short_ids_ = false;       // of calls: nine letters and digits
  bool takes_many_calls_ = true;       // in one message
  bool has_system_ = true;
};

}  // namespace millrace
