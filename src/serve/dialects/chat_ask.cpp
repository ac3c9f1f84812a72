#include "serve/dialects/chat_ask.h"

#include <algorithm>

#include "engine/random.h"
#include "grammar/answer_grammar.h"

namespace millrace {
namespace {

bool has_switch(const ServedModel& model) {
  return model.need_chat().tells_apart(thinking_variables(true), thinking_variables(false));
}

void add_variables(const Json& more, ChatAsk& ask) {
  for (const auto& [name, value] : more.as_object()) ask.variables[name] = value;
}

std::string_view trimmed_end(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return text;
}

bool ends_with_any(std::string_view text, const std::vector<std::string_view>& signs) {
  return std::ranges::any_of(
      signs, [&](std::string_view sign) { return trimmed_end(text).ends_with(trimmed_end(sign)); });
}

// Where the last of the signs stands, counted from 1; 0 where none does.
size_t last_of(std::string_view text, const std::vector<std::string_view>& signs) {
  size_t last = 0;
  for (const std::string_view sign : signs) {
    const size_t at = text.rfind(sign);
    if (at != std::string_view::npos) last = std::max(last, at + 1);
  }
  return last;
}

struct ReasoningAtStart {
  bool may_begin = false;  // or has begun
  bool has_begun = false;
};

ReasoningAtStart reasoning_at_start(const ServedModel& model, const ChatAsk& ask,
                                    std::span<const int32_t> prompt) {
  const ChatTools& chat = *model.chat_tools;
  if (!chat.has_reasoning()) return {};
  constexpr size_t kTail = 256;
  const auto tail = prompt.last(std::min(prompt.size(), kTail));
  const std::string text = model.need_tokenizer().decode(tail, true);
  const auto& begins = chat.syntax().reasoning_begins;
  const auto& ends = chat.syntax().reasoning_ends;
  const bool has_begun =
      ask.is_begun ? last_of(text, begins) > last_of(text, ends) : ends_with_any(text, begins);
  return {.may_begin = has_begun || !ends_with_any(text, ends), .has_begun = has_begun};
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

std::shared_ptr<const Grammar> answer_grammar(const ServedModel& model, const AnswerForm& form,
                                              const std::string& field) {
  const Tokenizer& tokenizer = model.need_tokenizer();
  try {
    return model.grammars->get(key_of(form), [&] { return answer_rules(form, tokenizer); });
  } catch (const Error& error) {
    refuse_field(field, "{}", error.what());
  }
}

}  // namespace

void set_reasoning(const ServedModel& model, bool is_on, const std::string& field, ChatAsk& ask) {
  if (has_switch(model)) return add_variables(thinking_variables(is_on), ask);
  const bool reasons = model.chat_tools->has_reasoning();
  if (is_on && !reasons) refuse_field(field, "{}: the model's chat template knows no reasoning", field);
  if (!is_on && reasons)
    refuse_field(field, "{}: the model's chat template has no switch that turns reasoning off", field);
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
  const ToolSyntax& syntax = model.chat_tools->syntax();
  const ReasoningAtStart reasoning = reasoning_at_start(model, ask, prompt);
  Ask::Output output{.syntax = &syntax};
  const Json::Array tools = callable(ask);
  output.tools = std::make_shared<const Json>(tools);
  output.parser = {.begins_in_reasoning = ask.splits_reasoning && reasoning.has_begun,
                   .has_reasoning = ask.splits_reasoning && model.chat_tools->has_reasoning(),
                   .has_tools = !tools.empty(),
                   .tools = output.tools.get()};
  choice.output = std::move(output);
  // What ends the reasoning ends no answer, whatever else it ends elsewhere (harmony's <|end|>).
  std::erase_if(choice.request.end_tokens, [&](int32_t token) {
    return std::ranges::find(syntax.reasoning_ends, model.need_tokenizer().piece(token)) !=
           syntax.reasoning_ends.end();
  });
  if (!tools.empty() || ask.content) {
    const AnswerForm form{.syntax = syntax,
                          .tools = tools,
                          .are_required = ask.are_required,
                          .are_parallel = ask.are_parallel,
                          .begins_in_reasoning = reasoning.has_begun,
                          .may_reason = reasoning.may_begin,
                          .content = ask.content ? &ask.content->source : nullptr,
                          .end_tokens = choice.request.end_tokens};
    choice.request.grammar = answer_grammar(model, form, ask.content ? ask.content->field : "tools");
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
