// The messages of a chat request, as chat templates read them.
#include "serve/dialects/chat_messages.h"

#include <algorithm>

#include "serve/dialects/tool_fields.h"

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

}  // namespace

Json read_arguments(const std::string& text, const std::string& path) {
  try {
    return Json::parse(text, path, ErrorKind::usage, {.max_depth = 64});
  } catch (const Error& error) {
    refuse_field(path, "{} should be JSON in a string: {}", path, error.what());
  }
}

namespace {

Json read_tool_calls(const Json& calls, const std::string& path) {
  Json::Array out;
  for (size_t i = 0; i < calls.as_array().size(); ++i) {
    Fields call(calls.as_array()[i], fmt::format("{}[{}]", path, i));
    call.choice("type", {"function"});
    Json made;
    if (const auto id = call.text("id")) made["id"] = *id;
    made["type"] = "function";
    const Json* given = &call.need(call.object("function"), "function");
    Fields function(*given, call.full_name("function"));
    made["function"]["name"] = function.need(function.text("name"), "name");
    const std::string arguments = function.need(function.text("arguments"), "arguments");
    made["function"]["arguments"] = read_arguments(arguments, function.full_name("arguments"));
    function.allow({"parsed_arguments"});  // what OpenAI's own client adds to them
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
    fields.allow({"refusal", "annotations", "parsed"});  // what our own replies carry, and say nothing with
  }
  fields.finish();
  return out;
}

// Variables of the template, besides the messages.
void read_variables(Fields& fields, const ServedModel& model, ChatAsk& ask) {
  if (const auto effort =
          fields.choice("reasoning_effort", {"none", "minimal", "low", "medium", "high", "xhigh", "max"}))
    set_reasoning_effort(model, *effort, "reasoning_effort", ask);
  if (const Json* given = fields.object("chat_template_kwargs")) {
    for (const auto& [name, value] : given->as_object()) {
      for (const std::string_view own :
           {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"}) {
        if (name == own) refuse_field("chat_template_kwargs", "chat_template_kwargs cannot set {}", own);
      }
      ask.variables[name] = value;
    }
  }
  if (const auto adds = fields.boolean("add_generation_prompt"))
    ask.variables["add_generation_prompt"] = *adds;
  fields.refuse("chat_template", "requests do not bring templates");
  fields.refuse("documents", "documents are not served");
}

}  // namespace

ChatAsk read_chat(Fields& fields, const ServedModel& model) {
  model.need_chat();
  const Json* given = fields.array("messages", kMaxMessages);
  fields.need(given, "messages");
  if (given->as_array().empty()) refuse_field("messages", "messages is empty, expected at least one");
  ChatAsk ask;
  for (size_t i = 0; i < given->as_array().size(); ++i)
    ask.messages.push_back(read_message(given->as_array()[i], model, fmt::format("messages[{}]", i)));
  read_variables(fields, model, ask);
  ask.tools = read_tools(fields, "tools");
  ask.is_begun = fields.boolean("continue_final_message").value_or(false);
  if (ask.is_begun && ask.messages.back().at("role").as_string() != "assistant")
    refuse_field("continue_final_message", "continue_final_message needs a last message of the assistant");
  return ask;
}

std::vector<int32_t> read_chat_prompt(Fields& fields, const ServedModel& model) {
  return encode_messages(model, read_chat(fields, model), "messages");
}

}  // namespace millrace
