#include "text/chat_prompt.h"

#include "text/chat_encoding.h"

namespace millrace {

Json message(std::string_view role, std::string_view text) {
  Json out;
  out["role"] = role;
  out["content"] = text;
  return out;
}

Json thinking_variables(bool thinking) {
  Json out;
  out["enable_thinking"] = thinking;
  out["thinking"] = thinking;
  return out;
}

ChatPrompt::ChatPrompt(const Tokenizer& tokenizer, std::string_view source)
    : tokenizer_(tokenizer), template_(source) {
  if (const auto bos = tokenizer_.bos()) variables_["bos_token"] = tokenizer_.piece(*bos);
  if (const auto eos = tokenizer_.eos()) variables_["eos_token"] = tokenizer_.piece(*eos);
  variables_["add_generation_prompt"] = true;
}

bool ChatPrompt::set_thinking(bool thinking) {
  if (!tells_apart(thinking_variables(true), thinking_variables(false))) return false;
  const Json variables = thinking_variables(thinking);
  for (const auto& [name, value] : variables.as_object()) variables_[name] = value;
  return true;
}

Json ChatPrompt::all_variables(const Json::Array& messages, const Json& more) const {
  Json all = variables_;
  if (more.is_object()) {
    for (const auto& [name, value] : more.as_object()) all[name] = value;
  }
  all["messages"] = messages;
  return all;
}

std::vector<int32_t> ChatPrompt::encode(const Json::Array& messages) const {
  return encode(messages, Json());
}

std::vector<int32_t> ChatPrompt::encode(const Json::Array& messages, const Json& variables) const {
  return encode_chat(template_, tokenizer_, all_variables(messages, variables));
}

std::string ChatPrompt::render(const Json::Array& messages, const Json& variables) const {
  return template_.render(all_variables(messages, variables));
}

bool ChatPrompt::tells_apart(const Json& one, const Json& other) const {
  const Json::Array messages = {message("user", "?")};
  return render(messages, one) != render(messages, other);
}

}  // namespace millrace
