// The prompt that a conversation becomes, with the variables that every chat template is given.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace millrace {

// {"role": role, "content": text}
Json message(std::string_view role, std::string_view text);

// Any thread may encode.
class ChatPrompt {
 public:
  // `tokenizer` must outlive it. Throws Error(bad_model) when the source is no template.
  ChatPrompt(const Tokenizer& tokenizer, std::string_view source);

  // What the template is told from now on by enable_thinking and its relatives. False, and nothing is
  // changed, where the template has no such switch.
  bool set_thinking(bool thinking);

  std::vector<int32_t> encode(const Json::Array& messages) const;
  // `variables`, an object, goes beside and over the ones that every template is given. Throws
  // Error(runtime), as ChatTemplate::render does.
  std::vector<int32_t> encode(const Json::Array& messages, const Json& variables) const;
  std::string render(const Json::Array& messages, const Json& variables) const;

  // Whether the prompt of a short conversation differs between the two objects of variables: whether the
  // template reads what they differ in.
  bool tells_apart(const Json& one, const Json& other) const;

 private:
  Json all_variables(const Json::Array& messages, const Json& more) const;

  const Tokenizer& tokenizer_;
  ChatTemplate template_;
  Json variables_;
};

// Reasoning on or off, under the names that templates know: enable_thinking (Qwen, GLM, Gemma), thinking
// (DeepSeek, Granite).
Json thinking_variables(bool thinking);

}  // namespace millrace
