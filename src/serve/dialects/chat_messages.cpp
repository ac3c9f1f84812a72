// The messages of a chat request, as chat templates read them.
#include "serve/dialects/chat_messages.h"

#include <algorithm>

#include "serve/dialects/openai.h"

namespace millrace {
namespace {

constexpr size_t kMaxMessages = 4096;
constexpr size_t kMaxParts = 4096;
constexpr size_t kMaxCalls = 128;

// The text of a content, a string or parts; several parts are lines.
std::string read_content(const Json& content, const std::string& path) {
  if (content.is_string()) return content.as_string();
  if (!content.is_array() || content.as_array().size() > kMaxParts)
    refuse_field(path, "{} should be a string or a list of at most {} parts, found {}", path, kMaxParts,
                 content.type_name());
  std::string out;
  for (size_t i = 0; i < content.as_array().size(); ++i) {
    Fields part(content.as_array()[i], fmt::format("{}[{}]", path, i));
    const std::string type = part.need(part.text("type"), "type");
    if (type != "text" && type != "refusal")
      refuse_field(part.full_name("type"), "{} is {}: this model reads text alone", part.full_name("type"),
                   printable(type, 40));
    out += (i == 0 ? "" : "\n") + part.need(part.text(type), type);
    part.finish();
  }
  return out;
}

// OpenAI's arguments are JSON in a string; templates were trained with the object.
Json read_arguments(const std::string& text, const std::string& path) {
  try {
    return Json::parse(text, path, ErrorKind::usage, {.max_depth = 64});
  } catch (const Error& error) {
    refuse_field(path, "{} should be JSON in a string: {}", path, error.what());
  }
}

Json read_tool_calls(const Json& calls, const std::string& path) {
  Json::Array out;
  for (size_t i = 0; i < calls.as_array().size(); ++i) {
    Fields call(calls.as_array()[i], fmt::format("{}[{}]", path, i));
    call.choice("type", {"function"});
    Json made;
    if (const auto id = call.text("id")) made["id"] = *id;
    made["type"] = "function";
    const Json* given = call.object("function");
    if (given == nullptr) call.refuse_missing("function");
    Fields function(*given, call.full_name("function"));
    made["function"]["name"] = function.need(function.text("name"), "name");
    const std::string arguments = function.need(function.text("arguments"), "arguments");
    made["function"]["arguments"] = read_arguments(arguments, function.full_name("arguments"));
    function.finish();
    call.allow({"index"});
    call.finish();
    out.push_back(std::move(made));
  }
  return out;
}

Json read_message(const Json& given, const ServedModel& model, const std::string& path) {
  Fields fields(given, path);
  std::string role =
      fields.need(fields.choice("role", {"system", "developer", "user", "assistant", "tool"}), "role");
  if (role == "developer" && !model.template_knows_developer) role = "system";
  Json out;
  out["role"] = role;
  const Json* content = fields.any("content");
  const Json* calls = role == "assistant" ? fields.array("tool_calls", kMaxCalls) : nullptr;
  if (content == nullptr && calls == nullptr) fields.refuse_missing("content");
  out["content"] = content == nullptr ? "" : read_content(*content, fields.full_name("content"));
  if (calls != nullptr && !calls->as_array().empty())
    out["tool_calls"] = read_tool_calls(*calls, fields.full_name("tool_calls"));
  if (role == "tool") out["tool_call_id"] = fields.need(fields.text("tool_call_id"), "tool_call_id");
  if (const auto name = fields.text("name")) out["name"] = *name;
  if (role == "assistant") {
    auto reasoning = fields.text("reasoning_content");
    const auto newer = fields.text("reasoning");
    if (!reasoning) reasoning = newer;
    if (reasoning) out["reasoning_content"] = *reasoning;
    fields.refuse("audio", "this model reads text alone");
    fields.refuse("function_call", "use tool_calls");
    fields.allow({"refusal", "annotations"});  // what our own replies carry, and say nothing with
  }
  fields.finish();
  return out;
}

// Variables of the template, besides the messages.
Json read_variables(Fields& fields, const ServedModel& model) {
  Json out;
  if (const auto effort =
          fields.choice("reasoning_effort", {"none", "minimal", "low", "medium", "high", "xhigh", "max"})) {
    Json none;
    none["reasoning_effort"] = "none";
    out = thinking_variables(*effort != "none");
    out["reasoning_effort"] = *effort;
    Json other = thinking_variables(*effort == "none");
    other["reasoning_effort"] = *effort == "low" ? "high" : "low";
    if (!model.need_chat().tells_apart(out, other))
      refuse_field("reasoning_effort",
                   "reasoning_effort: this model's chat template has no switch for reasoning");
  }
  if (const Json* given = fields.object("chat_template_kwargs")) {
    for (const auto& [name, value] : given->as_object()) {
      for (const std::string_view own :
           {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"}) {
        if (name == own) refuse_field("chat_template_kwargs", "chat_template_kwargs cannot set {}", own);
      }
      out[name] = value;
    }
  }
  if (const auto adds = fields.boolean("add_generation_prompt")) out["add_generation_prompt"] = *adds;
  fields.refuse("chat_template", "requests do not bring templates");
  fields.refuse("documents", "documents are not served");
  return out;
}

}  // namespace

std::vector<int32_t> encode_messages(const ServedModel& model, Json::Array messages, const Json& variables,
                                     bool is_begun) {
  const ChatPrompt& chat = model.need_chat();
  std::string begun;
  if (is_begun) {
    begun = messages.back().at("content").as_string();
    messages.pop_back();
    if (messages.empty())
      refuse_field("messages", "messages holds the beginning of an answer alone, expected a question");
  }
  std::vector<int32_t> prompt;
  try {
    prompt = chat.encode(messages, variables);
  } catch (const Error& error) {
    throw ApiError(400, fmt::format("the chat template refuses the messages: {}", error.what()), "messages");
  }
  const auto more = model.need_tokenizer().encode(begun, {.add_special = false});
  prompt.insert(prompt.end(), more.begin(), more.end());
  return prompt;
}

std::vector<int32_t> read_chat_prompt(Fields& fields, const ServedModel& model) {
  const Json* given = fields.array("messages", kMaxMessages);
  fields.need(given, "messages");
  if (given->as_array().empty()) refuse_field("messages", "messages is empty, expected at least one");
  Json::Array messages;
  for (size_t i = 0; i < given->as_array().size(); ++i)
    messages.push_back(read_message(given->as_array()[i], model, fmt::format("messages[{}]", i)));
  const Json variables = read_variables(fields, model);
  const bool is_begun = fields.boolean("continue_final_message").value_or(false);
  if (is_begun && messages.back().at("role").as_string() != "assistant")
    refuse_field("continue_final_message", "continue_final_message needs a last message of the assistant");
  std::vector<int32_t> prompt = encode_messages(model, std::move(messages), variables, is_begun);
  need_room(model, prompt, "messages");
  return prompt;
}

}  // namespace millrace
