// Anthropic's POST /v1/messages and /v1/messages/count_tokens.
#include "serve/dialects/table.h"
#include "serve/dialects/tool_fields.h"
#include "serve/sampling_fields.h"

namespace millrace {
namespace {

constexpr size_t kMaxStops = 64;
constexpr size_t kMaxBlocks = 4096;
constexpr size_t kMaxMessages = 4096;

Json usage_json(const Totals& totals) {
  Json out;
  out["input_tokens"] = totals.n_prompt - totals.n_cached;
  out["cache_creation_input_tokens"] = 0;
  out["cache_read_input_tokens"] = totals.n_cached;
  out["output_tokens"] = totals.n_generated;
  return out;
}

Json error_json(const ApiError& error) {
  const auto type = [&] {
    switch (error.status) {
      case 401:
        return "authentication_error";
      case 403:
        return "permission_error";
      case 404:
        return "not_found_error";
      case 413:
        return "request_too_large";
      case 429:
        return "rate_limit_error";
      case 503:
        return "overloaded_error";
      default:
        return error.status < 500 ? "invalid_request_error" : "api_error";
    }
  };
  Json out;
  out["type"] = "error";
  out["error"]["type"] = type();
  out["error"]["message"] = error.what();
  return out;
}

Json of_type(std::string_view type) {
  Json out;
  out["type"] = type;
  return out;
}

// Blocks stand one after another: text, thinking, a call of a tool.
class MessageEncoder final : public Encoder {
 public:
  MessageEncoder(const ServedModel& model, std::string id, bool shows_thinking)
      : model_(model), id_(std::move(id)), shows_thinking_(shows_thinking) {}

  // Clients tell events apart by the line before the data.
  void piece(const Piece& piece, const Totals& totals, std::string& out) override {
    if (!std::exchange(has_begun_, true)) {
      Json start = of_type("message_start");
      start["message"] = frame(totals);
      append_event(out, "message_start", start);
    }
    for (const OutputEvent& event : piece.output) add_event(event, out);
    if (piece.ending) ending_ = *piece.ending;
  }

  void end(const Totals& totals, std::string& out) override {
    close(out);
    if (n_blocks_ == 0) {  // an answer of nothing is a text
      open(Kind::content, {}, out);
      close(out);
    }
    Json delta = of_type("message_delta");
    delta["delta"] = ended(ending_);
    delta["usage"] = usage_json(totals);
    append_event(out, "message_delta", delta);
    append_event(out, "message_stop", of_type("message_stop"));
  }

  void fault(const ApiError& error, std::string& out) override {
    append_event(out, "error", error_json(error));
  }

  std::string keep_alive() const override {
    std::string out;
    append_event(out, "ping", of_type("ping"));
    return out;
  }

  std::string whole(std::span<const Piece> choices, const Totals& totals) override {
    Json out = frame(totals);
    out["content"] = blocks(choices.front().output);
    const Json end = ended(*choices.front().ending);
    for (const auto& [name, value] : end.as_object()) out[name] = value;
    return out.dump();
  }

 private:
  using Kind = OutputEvent::Kind;

  static Json new_block(Kind kind, const std::string& name) {
    if (kind == Kind::reasoning) {
      Json block = of_type("thinking");
      block["thinking"] = "";
      block["signature"] = "";
      return block;
    }
    if (kind == Kind::content) {
      Json block = of_type("text");
      block["text"] = "";
      return block;
    }
    Json block = of_type("tool_use");
    block["id"] = fresh_call_id("toolu_");
    block["name"] = name;
    block["input"] = Json::Object();
    return block;
  }

  Json::Array blocks(const std::vector<OutputEvent>& output) const {
    Json::Array out;
    std::string arguments;
    for (const OutputEvent& event : output) {
      if (event.kind == Kind::arguments) {
        arguments += event.text;
      } else if (event.kind == Kind::call_end) {
        out.back()["input"] = input_of(std::exchange(arguments, {}));
      } else {
        Json& block = out.emplace_back(new_block(event.kind, event.text));
        if (event.kind == Kind::content) block["text"] = event.text;
        if (event.kind == Kind::reasoning && shows_thinking_) block["thinking"] = event.text;
      }
    }
    if (out.empty()) out.push_back(new_block(Kind::content, {}));
    return out;
  }

  // Of a call that max_tokens cut no object can be made.
  static Json input_of(const std::string& arguments) {
    try {
      return Json::parse(arguments, "the arguments");
    } catch (const Error&) {
      return Json::Object();
    }
  }

  void add_event(const OutputEvent& event, std::string& out) {
    if (event.kind == Kind::call_end) return close(out);
    const bool goes_on = event.kind == Kind::arguments || (is_open_ && kind_ == event.kind);
    if (event.kind == Kind::call_begin || !goes_on) {
      close(out);
      open(event.kind, event.text, out);
    }
    if (event.kind == Kind::content) send_delta("text_delta", "text", event.text, out);
    if (event.kind == Kind::arguments) send_delta("input_json_delta", "partial_json", event.text, out);
    if (event.kind == Kind::reasoning && shows_thinking_)
      send_delta("thinking_delta", "thinking", event.text, out);
  }

  void open(Kind kind, const std::string& name, std::string& out) {
    Json event = of_type("content_block_start");
    event["index"] = n_blocks_++;
    event["content_block"] = new_block(kind, name);
    append_event(out, "content_block_start", event);
    is_open_ = true;
    kind_ = kind;
  }

  void close(std::string& out) {
    if (!std::exchange(is_open_, false)) return;
    if (kind_ == Kind::reasoning) send_delta("signature_delta", "signature", "", out);
    Json event = of_type("content_block_stop");
    event["index"] = n_blocks_ - 1;
    append_event(out, "content_block_stop", event);
  }

  void send_delta(std::string_view type, std::string_view name, const std::string& text, std::string& out) {
    Json event = of_type("content_block_delta");
    event["index"] = n_blocks_ - 1;
    event["delta"] = of_type(type);
    event["delta"][name] = text;
    append_event(out, "content_block_delta", event);
  }

  Json frame(const Totals& totals) const {
    Json out;
    out["id"] = id_;
    out["type"] = "message";
    out["role"] = "assistant";
    out["model"] = model_.names.front();
    out["content"] = Json::Array();
    out["stop_reason"] = Json();
    out["stop_sequence"] = Json();
    out["usage"] = usage_json(totals);
    return out;
  }

  static Json ended(const Ending& ending) {
    Json out;
    out["stop_reason"] = ending.reason == FinishReason::length ? "max_tokens"
                         : !ending.stop.empty()                ? "stop_sequence"
                         : ending.calls_tools                  ? "tool_use"
                                                               : "end_turn";
    out["stop_sequence"] = ending.stop.empty() ? Json() : Json(ending.stop);
    return out;
  }

  const ServedModel& model_;
  const std::string id_;
  const bool shows_thinking_;
  bool has_begun_ = false, is_open_ = false;
  Kind kind_ = Kind::content;  // of the block that is open
  int64_t n_blocks_ = 0;
  Ending ending_;
};

// The text of a string or of text blocks.
std::string read_text(const Json& content, const std::string& path) {
  if (content.is_string()) return content.as_string();
  if (!content.is_array() || content.as_array().size() > kMaxBlocks)
    refuse_field(path, "{} should be a string or a list of blocks, found {}", path, content.type_name());
  std::string out;
  for (size_t i = 0; i < content.as_array().size(); ++i) {
    Fields block(content.as_array()[i], fmt::format("{}[{}]", path, i));
    block.choice("type", {"text"});
    out += (i == 0 ? "" : "\n") + block.need(block.text("text"), "text");
    block.allow({"cache_control", "citations"});
    block.finish();
  }
  return out;
}

Json read_tool_use(Fields& block) {
  Json call;
  call["id"] = block.need(block.text("id"), "id");
  call["type"] = "function";
  call["function"]["name"] = block.need(block.text("name"), "name");
  const Json* input = &block.need(block.object("input"), "input");
  call["function"]["arguments"] = *input;
  return call;
}

// A message of blocks becomes one for its text and calls, and one for each result of a tool, which come
// first: templates know roles, not blocks.
void read_blocks(const Json& blocks, const std::string& role, const std::string& path,
                 Json::Array& messages) {
  std::string text, thinking;
  Json::Array calls, results;
  for (size_t i = 0; i < blocks.as_array().size(); ++i) {
    Fields block(blocks.as_array()[i], fmt::format("{}[{}]", path, i));
    const std::string type = block.need(block.text("type"), "type");
    block.allow({"cache_control", "citations"});
    if (type == "text") {
      text += (text.empty() ? "" : "\n") + block.need(block.text("text"), "text");
    } else if (type == "thinking" && role == "assistant") {
      thinking += block.need(block.text("thinking"), "thinking");
      block.allow({"signature"});  // nothing is hidden in ours
    } else if (type == "tool_use" && role == "assistant") {
      calls.push_back(read_tool_use(block));
    } else if (type == "tool_result" && role == "user") {
      Json result = message("tool", "");
      result["tool_call_id"] = block.need(block.text("tool_use_id"), "tool_use_id");
      if (const Json* content = block.any("content"))
        result["content"] = read_text(*content, block.full_name("content"));
      block.boolean("is_error");
      results.push_back(std::move(result));
    } else {
      refuse_field(block.full_name("type"),
                   "{} is {}: this model reads text, thinking, and calls and results of tools",
                   block.full_name("type"), printable(type, 40));
    }
    block.finish();
  }
  messages.insert(messages.end(), results.begin(), results.end());
  if (text.empty() && calls.empty() && !results.empty()) return;
  Json made = message(role, text);
  if (!thinking.empty()) made["reasoning_content"] = thinking;
  if (!calls.empty()) made["tool_calls"] = std::move(calls);
  messages.push_back(std::move(made));
}

Json::Array read_messages(Fields& fields) {
  Json::Array out;
  if (const Json* system = fields.any("system"))
    out.push_back(message("system", read_text(*system, "system")));
  const Json* given = fields.array("messages", kMaxMessages);
  fields.need(given, "messages");
  if (given->as_array().empty()) refuse_field("messages", "messages is empty, expected at least one");
  for (size_t i = 0; i < given->as_array().size(); ++i) {
    Fields one(given->as_array()[i], fmt::format("messages[{}]", i));
    const std::string role = one.need(one.choice("role", {"user", "assistant", "system"}), "role");
    const Json* content = &one.need(one.any("content"), "content");
    if (content->is_array() && content->as_array().size() <= kMaxBlocks) {
      read_blocks(*content, role, one.full_name("content"), out);
    } else {
      out.push_back(message(role, read_text(*content, one.full_name("content"))));
    }
    one.finish();
  }
  return out;
}

// Whether what the model thinks is shown.
bool read_thinking(Fields& fields, const ServedModel& model, ChatAsk& ask) {
  const Json* given = fields.object("thinking");
  if (given == nullptr) return true;
  Fields thinking(*given, "thinking");
  const auto type = thinking.need(thinking.choice("type", {"enabled", "adaptive", "disabled"}), "type");
  const bool is_shown = thinking.choice("display", {"summarized", "omitted"}) != "omitted";
  const auto budget = thinking.integer("budget_tokens", 1, INT64_MAX);
  thinking.finish();
  if (type != "adaptive") set_reasoning(model, type == "enabled", "thinking", ask);
  if (budget && type != "enabled")
    refuse_field("thinking.budget_tokens", "thinking.budget_tokens needs thinking of type enabled");
  if (budget) limit_reasoning(model, *budget, "thinking.budget_tokens", ask);
  return is_shown;
}

void read_output_config(Fields& fields, const ServedModel& model, ChatAsk& ask) {
  const auto read_format = [&](Fields& holder, std::string_view name) {
    const Json* given = holder.object(name);
    if (given == nullptr) return;
    Fields format(*given, holder.full_name(name));
    format.need(format.choice("type", {"json_schema"}), "type");
    const Json* schema = &format.need(format.object("schema"), "schema");
    ask.content = schema_grammar(holder.full_name(name), *schema);
    format.finish();
  };
  read_format(fields, "output_format");
  const Json* given = fields.object("output_config");
  if (given == nullptr) return;
  Fields config(*given, "output_config");
  if (const auto effort = config.choice("effort", {"low", "medium", "high", "xhigh", "max"}))
    set_reasoning_effort(model, *effort, "output_config.effort", ask);
  read_format(config, "format");
  config.finish();
}

void read_message_tools(Fields& fields, ChatAsk& ask) {
  if (const Json* given = fields.array("tools", kMaxTools)) {
    for (size_t i = 0; i < given->as_array().size(); ++i) {
      Fields tool(given->as_array()[i], fmt::format("tools[{}]", i));
      if (const auto type = tool.text("type"); type && *type != "custom")
        refuse_field(tool.full_name("type"), "{} is {}: this server has no tools of its own",
                     tool.full_name("type"), printable(*type, 40));
      ask.tools.push_back(read_function(tool, "input_schema"));
      tool.allow({"cache_control", "eager_input_streaming"});
      tool.finish();
    }
  }
  const Json* given = fields.object("tool_choice");
  if (given == nullptr) return;
  Fields choice(*given, "tool_choice");
  const auto type = choice.need(choice.choice("type", {"auto", "any", "none", "tool"}), "type");
  ask.are_parallel = !choice.boolean("disable_parallel_tool_use").value_or(false);
  if (type == "tool") need_call_of(choice.need(choice.text("name"), "name"), "tool_choice", ask);
  choice.finish();
  if (type == "none") ask.tools.clear();
  if (type != "any") return;
  if (ask.tools.empty()) refuse_field("tool_choice", "tool_choice is any, and there are no tools");
  ask.are_required = true;
}

struct MessageAsk {
  ChatAsk chat;
  bool shows_thinking = true;
};

MessageAsk read_conversation(Fields& fields, const ServedModel& model) {
  model.need_chat();
  fields.allow({"metadata", "service_tier", "cache_control", "inference_geo"});
  MessageAsk ask;
  ask.chat.messages = read_messages(fields);
  read_message_tools(fields, ask.chat);
  ask.shows_thinking = read_thinking(fields, model, ask.chat);
  read_output_config(fields, model, ask.chat);
  // A last message of the assistant is the beginning of the answer.
  ask.chat.is_begun = ask.chat.messages.back().at("role").as_string() == "assistant";
  return ask;
}

Parsed parse_message(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  Fields fields(body);
  Ask ask = read_ask(incoming, fields);
  Ask::Choice choice;
  choice.request.sampling = read_sampling(fields, incoming.model);
  choice.request.end_tokens = incoming.model.end_tokens;
  choice.request.max_tokens = fields.need(fields.integer("max_tokens", 1, INT64_MAX), "max_tokens");
  choice.stops = fields.texts("stop_sequences", kMaxStops);
  need_stops(incoming.model, choice.stops, "stop_sequences");
  const MessageAsk asked = read_conversation(fields, incoming.model);
  fields.finish();
  std::vector<int32_t> prompt = fill_chat(incoming.model, asked.chat, "messages", choice);
  ask.choices = choices_of(choice, {std::move(prompt)}, 1);
  ask.encoder =
      std::make_unique<MessageEncoder>(incoming.model, "msg_" + incoming.http.id, asked.shows_thinking);
  return ask;
}

Parsed count_tokens(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  Fields fields(body);
  need_model(incoming, fields.text("model"));
  const MessageAsk asked = read_conversation(fields, incoming.model);
  fields.finish();
  const std::vector<int32_t> prompt = encode_messages(incoming.model, asked.chat, "messages");
  Json out;
  out["input_tokens"] = prompt.size();
  return json_response(out);
}

std::string error_body(const ApiError& error, const std::string& request_id) {
  Json out = error_json(error);
  out["request_id"] = request_id;
  return out.dump();
}

constexpr std::string_view kMessages = R"([
  {"max_tokens": 100, "system": [{"type": "text", "text": "Be terse."}], "thinking": {"type": "disabled"}, "messages": [
    {"role": "user", "content": [{"type": "text", "text": "How high is the Zugspitze?"}]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": "I look.", "signature": ""},
      {"type": "tool_use", "id": "1", "name": "height", "input": {"of": "Zugspitze"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "2962 m"}]}],
   "tools": [{"name": "height", "description": "The height of a mountain.", "input_schema":
     {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]}}],
   "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}},
  {"max_tokens": 100, "messages": [{"role": "user", "content": "How high is the Zugspitze?"}],
   "output_config": {"format": {"type": "json_schema", "schema": {"type": "integer"}}}},
  {"max_tokens": 100, "messages": [{"role": "user", "content": "How high is the Zugspitze?"}],
   "output_format": {"type": "json_schema", "schema": {"type": "integer"}}}])";
constexpr std::string_view kCounted =
    R"([{"system": "Be terse.", "messages": [{"role": "user", "content": "Hello"}]}])";

constexpr ApiRoute kRoutes[] = {
    post_route("/v1/messages", parse_message, kMessages),
    post_route("/v1/messages/count_tokens", count_tokens, kCounted),
};

}  // namespace

Dialect anthropic_dialect() { return {"Anthropic", kRoutes, error_body}; }

}  // namespace millrace
