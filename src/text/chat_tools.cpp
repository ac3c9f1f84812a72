#include "text/chat_tools.h"

#include <algorithm>
#include <map>
#include <utility>

#include "text/output/syntaxes/all.h"
#include "text/output/written_calls.h"

namespace millrace {
namespace {

constexpr std::string_view kShortId = "abcdefghi";

bool is_letter_or_digit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// What a conversation with a tool becomes; empty where the template cannot write it.
std::string tried(const ChatPrompt& chat, const Json::Array& messages, const Json& variables) {
  try {
    return chat.render(messages, variables);
  } catch (const Error&) {
    return {};
  }
}

Json probe_tools() {
  return Json::parse(
      R"([{"type": "function", "function": {"name": "probe_tool", "description": "Probes.",
          "parameters": {"type": "object", "properties": {"probe_key": {"type": "string",
          "description": "A key."}}, "required": ["probe_key"]}}}])",
      "the probe");
}

Json probe_call(std::string_view id, const Json& arguments) {
  Json call;
  call["id"] = id;
  call["type"] = "function";
  call["function"]["name"] = "probe_tool";
  call["function"]["arguments"] = arguments;
  return call;
}

// A conversation with these calls, and a result of each.
Json::Array probe(const Json::Array& calls) {
  Json calling = message("assistant", "");
  calling["tool_calls"] = calls;
  Json::Array out{message("user", "?"), std::move(calling)};
  for (const Json& call : calls) {
    Json result = message("tool", "probe_result");
    result["tool_call_id"] = call.at("id");
    result["name"] = "probe_tool";
    out.push_back(std::move(result));
  }
  return out;
}

Json probe_arguments(std::string_view value) {
  Json out;
  out["probe_key"] = value;
  return out;
}

bool is_of(const Json& message, std::string_view role) { return message.at("role") == Json(role); }

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// The names and values are there, and not as Python's dict or as JSON in a string of JSON.
bool has_call(std::string_view prompt, std::string_view value) {
  for (const std::string_view part : {std::string_view("probe_tool"), std::string_view("probe_key"), value,
                                      std::string_view("probe_result")})
    if (!has(prompt, part)) return false;
  return !has(prompt, "'probe_key': '" + std::string(value)) && !has(prompt, "\\\"" + std::string(value));
}

// The control tokens that stand in the text, the longest first.
void add_control_tokens(std::string_view text, const Tokenizer& tokenizer, std::vector<int32_t>& tokens) {
  for (size_t at = 0; at < text.size(); ++at) {
    for (size_t n = text.size() - at; n > 2; --n) {
      const auto id = tokenizer.find_piece(text.substr(at, n));
      if (!id || !tokenizer.token_bytes(*id, false).empty()) continue;
      tokens.push_back(*id);
      at += n - 1;
      break;
    }
  }
}

bool is_any_in(const std::vector<std::string_view>& signs, std::string_view source) {
  return std::ranges::any_of(signs, [&](std::string_view sign) {
    while (!sign.empty() && sign.back() == '\n') sign.remove_suffix(1);
    return has(source, sign);
  });
}

// Nine letters and digits, the same for the same id.
void shorten(Json& id) {
  constexpr std::string_view kLetters = "0123456789abcdefghijklmnopqrstuvwxyz";
  const std::string& text = id.as_string();
  if (text.size() == kShortId.size() && std::ranges::all_of(text, is_letter_or_digit)) return;
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  std::string out;
  for (size_t i = 0; i < kShortId.size(); ++i, hash /= kLetters.size())
    out += kLetters[hash % kLetters.size()];
  id = out;
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

// ---- templates without tools

struct Words {
  std::string text;
  size_t example_at, example_size;  // of a call
};

// As the models of the Hermes and Qwen families are told.
Words tools_in_words(const Json::Array& tools, const ToolSyntax& syntax) {
  Words out{
      "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
      "function signatures within <tools></tools> XML tags:\n<tools>",
      0, 0};
  for (const Json& tool : tools) out.text += "\n" + tool.dump();
  out.text += "\n</tools>\n\nFor each function call, ";
  std::string example;
  if (syntax.name == "hermes") {
    out.text +=
        "return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n";
    example = "<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>";
  } else {
    out.text += "write its name and arguments exactly like this:\n";
    Json call;
    call["function"]["name"] = "example_function";
    call["function"]["arguments"]["example_parameter"] = "value";
    example = written_calls(syntax, {call});
  }
  out.example_at = out.text.size();
  out.example_size = example.size();
  out.text += example;
  return out;
}

std::string result_in_words(const Json& message) {
  return "<tool_response>\n" + message.at("content").as_string() + "\n</tool_response>";
}

// Some templates want the name of the tool with its result.
void name_results(Json::Array& messages) {
  std::map<std::string, std::string> names;  // by the id of the call
  for (Json& each : messages) {
    if (const Json* calls = each.find("tool_calls")) {
      for (const Json& call : calls->as_array())
        if (const Json* id = call.find("id"))
          names[id->as_string()] = call.at("function").at("name").as_string();
    }
    const Json* id = each.find("tool_call_id");
    if (id == nullptr || each.find("name") != nullptr) continue;
    if (const auto found = names.find(id->as_string()); found != names.end()) each["name"] = found->second;
  }
}

// Each call in a message of its own, its result behind it.
Json::Array one_call_at_a_time(Json::Array messages) {
  Json::Array out;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Json* found = messages[i].find("tool_calls");
    if (found == nullptr || found->as_array().size() < 2) {
      out.push_back(std::move(messages[i]));
      continue;
    }
    const Json::Array calls = found->as_array();
    const size_t first = i + 1;
    while (i + 1 < messages.size() && is_of(messages[i + 1], "tool")) ++i;
    for (size_t c = 0; c < calls.size(); ++c) {
      Json one = message("assistant", "");
      one["tool_calls"] = Json::Array{calls[c]};
      out.push_back(std::move(one));
      if (first + c <= i) out.push_back(std::move(messages[first + c]));
    }
  }
  return out;
}

// Before the text of the first message where the template knows no system, else behind that of the system.
void tell_first(Json::Array& messages, const Words& words, bool has_system) {
  if (has_system && !is_of(messages.front(), "system"))
    messages.insert(messages.begin(), message("system", ""));
  Json& first = messages.front();
  const std::string content = first["content"].as_string();
  const std::string before = has_system && !content.empty() ? content + "\n\n" : "";
  first["content"] = before + words.text + (has_system ? "" : "\n\n" + content);
  first["own_text"]["at"] = before.size() + words.example_at;
  first["own_text"]["n"] = words.example_size;
}

void leave_out(Json& object, std::string_view key) {
  std::erase_if(object.as_object(), [&](const Json::Member& member) { return member.first == key; });
}

}  // namespace

ChatTools::ChatTools(const ChatPrompt& chat, std::string_view source, const Tokenizer& tokenizer)
    : syntax_(syntax_of_template(source)) {
  has_reasoning_ = is_any_in(syntax_.reasoning_begins, source) || is_any_in(syntax_.reasoning_ends, source);
  if (syntax_.shape == ToolSyntax::Shape::none) {
    // Calls in the words of another family, reasoning in its own.
    const ToolSyntax own = std::exchange(syntax_, syntaxes::hermes);
    syntax_.reasoning_begins = own.reasoning_begins;
    syntax_.reasoning_ends = own.reasoning_ends;
    syntax_.dropped = own.dropped;
  } else {
    try_tools(chat);
  }
  const Json::Array messages{message("system", "probe_system"), message("user", "?")};
  has_system_ = has(tried(chat, messages, {}), "probe_system");
  for (const std::string_view sign : signs_of(syntax_)) add_control_tokens(sign, tokenizer, sign_tokens_);
  std::ranges::sort(sign_tokens_);
}

void ChatTools::try_tools(const ChatPrompt& chat) {
  Json variables;
  variables["tools"] = probe_tools();
  tells_tools_ = has(tried(chat, {message("user", "?")}, variables), "probe_tool");
  if (!tells_tools_) {
    variables = Json();
    Json::Array messages{message("system", "probe_system"), message("user", "?")};
    messages[0]["tools"] = probe_tools().dump();
    tells_in_system_ = has(tried(chat, messages, {}), "probe_tool");
  }
  const auto writes = [&](const Json::Array& calls, std::string_view value) {
    return has_call(tried(chat, probe(calls), variables), value);
  };
  const auto call = [&](std::string_view id, std::string_view value) {
    const Json arguments = probe_arguments(value);
    return probe_call(id, wants_text_arguments_ ? Json(arguments.dump()) : arguments);
  };
  for (const bool is_text : {false, true}) {
    wants_text_arguments_ = is_text;
    writes_calls_ = writes({call(kShortId, "probe_one")}, "probe_one");
    if (writes_calls_) break;
  }
  Json::Array said{message("user", "?"), message("assistant", "probe_call"), message("tool", "probe_result")};
  said.back()["name"] = "probe_tool";
  writes_results_ = writes_calls_ || has(tried(chat, said, variables), "probe_result");
  wants_short_ids_ = !writes({call("call_0123456789abcdef01234567", "probe_one")}, "probe_one");
  takes_many_calls_ = writes({call(kShortId, "probe_one"), call("bcdefghij", "probe_two")}, "probe_two");
}

ChatTools::PromptEnd ChatTools::end_of(std::string_view prompt, std::string_view begun) const {
  PromptEnd out;
  if (!syntax_.text_name.empty() && prompt.ends_with(syntax_.begins.front()))
    out.sign = syntax_.begins.front();
  if (!has_reasoning_) return out;
  const auto& begins = syntax_.reasoning_begins;
  const auto& ends = syntax_.reasoning_ends;
  if (last_of(begun, begins) > 0 || last_of(begun, ends) > 0) {
    out.is_reasoning = last_of(begun, begins) > last_of(begun, ends);
    out.may_reason = out.is_reasoning;
    return out;
  }
  const std::string_view before = prompt.substr(0, prompt.rfind(begun));
  out.is_reasoning = ends_with_any(begun.empty() ? prompt : before, begins);
  out.may_reason = out.is_reasoning || (begun.empty() && !ends_with_any(prompt, ends));
  return out;
}

void ChatTools::adapt(Json::Array& messages, Json& variables) const {
  name_results(messages);
  if (writes_calls_) {
    fit_calls(messages);
  } else {
    messages = put_in_words(std::move(messages));
  }
  const Json* tools = variables.find("tools");
  if (tells_tools_ || tools == nullptr || !tools->is_array() || messages.empty()) return;
  tell_tools(messages, tools->as_array());
  variables["tools"] = Json();
}

// As the template takes them.
void ChatTools::fit_calls(Json::Array& messages) const {
  if (!takes_many_calls_) messages = one_call_at_a_time(std::move(messages));
  for (Json& each : messages) {
    if (wants_short_ids_ && each.find("tool_call_id") != nullptr) shorten(each["tool_call_id"]);
    if (each.find("tool_calls") == nullptr) continue;
    for (Json& call : each["tool_calls"].as_array()) {
      if (wants_short_ids_ && call.find("id") != nullptr) shorten(call["id"]);
      Json& arguments = call["function"]["arguments"];
      if (wants_text_arguments_) arguments = arguments.dump();
    }
  }
}

Json::Array ChatTools::put_in_words(Json::Array messages) const {
  Json::Array out;
  for (Json& each : messages) {
    if (is_of(each, "tool") && !writes_results_) {
      const std::string result = result_in_words(each);
      // Results that follow each other are one turn.
      if (!out.empty() && is_of(out.back(), "user") &&
          has(out.back().at("content").as_string(), "<tool_response>")) {
        out.back()["content"] = out.back().at("content").as_string() + "\n" + result;
      } else {
        out.push_back(message("user", result));
      }
      continue;
    }
    if (const Json* calls = each.find("tool_calls"); calls != nullptr && !calls->as_array().empty()) {
      const std::string& content = each.at("content").as_string();
      each["content"] = content + (content.empty() ? "" : "\n") + written_calls(syntax_, calls->as_array());
      leave_out(each, "tool_calls");
    }
    out.push_back(std::move(each));
  }
  return out;
}

void ChatTools::tell_tools(Json::Array& messages, const Json::Array& tools) const {
  if (!tells_in_system_) return tell_first(messages, tools_in_words(tools, syntax_), has_system_);
  if (!is_of(messages.front(), "system"))
    messages.insert(messages.begin(), message("system", "You are a helpful assistant with some tools."));
  Json::Array functions;
  for (const Json& tool : tools) functions.push_back(tool.at("function"));
  messages.front()["tools"] = Json(std::move(functions)).dump();
}

}  // namespace millrace
