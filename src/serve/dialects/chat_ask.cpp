#include "serve/dialects/chat_ask.h"

#include <algorithm>

#include "engine/random.h"
#include "serve/answer_hold.h"

namespace millrace {
namespace {

bool has_switch(const ServedModel& model) {
  return model.need_chat().tells_apart(thinking_variables(true), thinking_variables(false));
}

void add_variables(const Json& more, ChatAsk& ask) {
  for (const auto& [name, value] : more.as_object()) ask.variables[name] = value;
}

Json::Array callable(const ChatAsk& ask) {
  if (ask.named.empty()) return ask.tools;
  Json::Array out;
  for (const Json& tool : ask.tools) {
    const std::string& name = tool.at("function").at("name").as_string();
    if (std::ranges::find(ask.named, name) != ask.named.end()) out.push_back(tool);
  }
  return out;
}

}  // namespace

void set_reasoning(const ServedModel& model, bool is_on, const std::string& field, ChatAsk& ask) {
  const bool reasons = model.chat_tools->has_reasoning();
  if (has_switch(model)) {
    add_variables(thinking_variables(is_on), ask);
  } else if (is_on && !reasons) {
    refuse_field(field, "{}: the model's chat template knows no reasoning", field);
  }
  if (!is_on && reasons) ask.max_reasoning = 0;
}

void set_reasoning_effort(const ServedModel& model, const std::string& effort, const std::string& field,
                          ChatAsk& ask) {
  Json given, other;
  given["reasoning_effort"] = effort;
  other["reasoning_effort"] = effort == "low" ? "high" : "low";
  const bool has_levels = model.need_chat().tells_apart(given, other);
  if (has_levels) add_variables(given, ask);
  if (!has_levels || has_switch(model)) set_reasoning(model, effort != "none", field, ask);
}

void limit_reasoning(const ServedModel& model, int64_t max_tokens, const std::string& field, ChatAsk& ask) {
  if (!model.chat_tools->has_reasoning())
    refuse_field(field, "{}: the model's chat template knows no reasoning", field);
  ask.max_reasoning = max_tokens;
  ask.variables["thinking_budget"] = max_tokens;  // some templates tell the model (Seed-OSS)
}

std::vector<int32_t> encode_messages(const ServedModel& model, const ChatAsk& ask, const std::string& param) {
  const ChatPrompt& chat = model.need_chat();
  Json::Array messages = ask.messages;
  std::string begun;
  if (ask.is_begun) {
    begun = messages.back().at("content").as_string();
    if (messages.back().find("tool_calls") != nullptr)
      refuse_field(param, "{} ends with calls of tools, expected their results behind it", param);
    messages.pop_back();
    if (messages.empty())
      refuse_field(param, "{} holds the beginning of an answer alone, expected a question", param);
  }
  Json variables = ask.variables;
  if (!ask.tools.empty()) variables["tools"] = ask.tools;
  model.chat_tools->adapt(messages, variables);
  std::vector<int32_t> prompt;
  try {
    prompt = chat.encode(messages, variables);
  } catch (const Error& error) {
    throw ApiError(400, fmt::format("the chat template refuses the messages: {}", error.what()), param);
  }
  const auto more = model.need_tokenizer().encode(begun, {.add_special = false});
  prompt.insert(prompt.end(), more.begin(), more.end());
  need_room(model, prompt, param);
  return prompt;
}

std::vector<int32_t> fill_chat(const ServedModel& model, const ChatAsk& ask, const std::string& param,
                               Ask::Choice& choice) {
  std::vector<int32_t> prompt = encode_messages(model, ask, param);
  const ChatModel chat{*model.chat_tools, model.need_tokenizer(), *model.grammars};
  const std::string begun = ask.is_begun ? ask.messages.back().at("content").as_string() : std::string();
  const AnswerHold hold{.tools = std::make_shared<const Json>(callable(ask)),
                        .are_required = ask.are_required,
                        .are_parallel = ask.are_parallel,
                        .content = ask.content ? &ask.content->source : nullptr,
                        .splits_reasoning = ask.splits_reasoning,
                        .max_reasoning = ask.max_reasoning};
  choice.output = {.syntax = &chat.tools.syntax(), .tools = hold.tools};
  try {
    choice.output->parser = hold_answer(chat, hold, end_of(chat, prompt, begun), choice.request);
  } catch (const Error& error) {
    refuse_field(ask.content ? ask.content->field : "tools", "{}", error.what());
  }
  return prompt;
}

WholeOutput whole_output(const std::vector<OutputEvent>& output) {
  using Kind = OutputEvent::Kind;
  WholeOutput out;
  for (const OutputEvent& event : output) {
    if (event.kind == Kind::content) out.content += event.text;
    if (event.kind == Kind::reasoning) out.reasoning += event.text;
    if (event.kind == Kind::call_begin) out.calls.push_back({event.text, {}});
    if (event.kind == Kind::arguments) out.calls.back().arguments += event.text;
  }
  return out;
}

std::string fresh_call_id(std::string_view prefix) {
  constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  constexpr int kLength = 24, kLettersASeed = 8;
  std::string out(prefix);
  uint64_t bits = 0;
  for (int i = 0; i < kLength; ++i, bits /= kLetters.size()) {
    if (i % kLettersASeed == 0) bits = drawn_seed();
    out += kLetters[bits % kLetters.size()];
  }
  return out;
}

}  // namespace millrace
