// Tools and reasoning as a chat template knows them, which is found by trying it; and conversations with
// tools in the words that it has. A template that knows no tools is told of them in its system message, and
// of calls and results in the messages of its assistant and user.
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
  // Whether the template itself writes tools, calls and results.
  bool is_native() const { return is_native_; }

  // How a prompt leaves the reasoning; `begun`: the beginning of the answer that stands at its end.
  struct Reasoning {
    bool may_begin = false;  // or has begun
    bool has_begun = false;
  };
  Reasoning reasoning_after(std::string_view prompt_end, std::string_view begun = {}) const;

  // `messages` as OpenAI's API has them, but with the arguments of calls as objects. `variables` may hold
  // `tools`.
  void adapt(Json::Array& messages, Json& variables) const;

 private:
  void try_tools(const ChatPrompt& chat);
  void tell_in_words(Json::Array& messages, Json& variables) const;

  ToolSyntax syntax_;
  std::vector<int32_t> sign_tokens_;  // ascending
  bool has_reasoning_, is_native_;
  bool wants_text_arguments_ = false;  // JSON in a string, as OpenAI's API has it
  bool wants_short_ids_ = false;       // of calls: nine letters and digits
  bool takes_many_calls_ = true;       // in one message
  bool has_system_ = true;
};

}  // namespace millrace
