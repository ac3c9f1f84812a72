// Anthropic's POST /v1/messages and /v1/messages/count_tokens.
#include "serve/dialects/chat_messages.h"
#include "serve/dialects/table.h"
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

class MessageEncoder final : public Encoder {
 public:
  MessageEncoder(const ServedModel& model, std::string id) : model_(model), id_(std::move(id)) {}

  // Clients tell events apart by the line before the data.
  void piece(const Piece& piece, const Totals& totals, std::string& out) override {
    if (!std::exchange(has_begun_, true)) begin(totals, out);
    if (!piece.text.empty()) {
      Json event = of_type("content_block_delta");
      event["index"] = 0;
      event["delta"]["type"] = "text_delta";
      event["delta"]["text"] = piece.text;
      append_event(out, "content_block_delta", event);
    }
    if (piece.ending) ending_ = *piece.ending;
  }

  void end(const Totals& totals, std::string& out) override {
    Json stop = of_type("content_block_stop");
    stop["index"] = 0;
    append_event(out, "content_block_stop", stop);
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
    Json block;
    block["type"] = "text";
    block["text"] = choices.front().text;
    out["content"] = Json::Array{std::move(block)};
    const Json end = ended(*choices.front().ending);
    for (const auto& [name, value] : end.as_object()) out[name] = value;
    return out.dump();
  }

 private:
  static Json of_type(std::string_view type) {
    Json out;
    out["type"] = type;
    return out;
  }

  void begin(const Totals& totals, std::string& out) const {
    Json start = of_type("message_start");
    start["message"] = frame(totals);
    append_event(out, "message_start", start);
    Json block = of_type("content_block_start");
    block["index"] = 0;
    block["content_block"]["type"] = "text";
    block["content_block"]["text"] = "";
    append_event(out, "content_block_start", block);
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
                         : ending.stop.empty()                 ? "end_turn"
                                                               : "stop_sequence";
    out["stop_sequence"] = ending.stop.empty() ? Json() : Json(ending.stop);
    return out;
  }

  const ServedModel& model_;
  const std::string id_;
  bool has_begun_ = false;
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
  const Json* input = block.object("input");
  if (input == nullptr) block.refuse_missing("input");
  call["function"]["arguments"] = *input;
  return call;
}

// A message of blocks becomes one for its text and calls, and one for each result of a tool, which come
// first: templates know roles, not blocks.
void read_blocks(const Json& blocks, const std::string& role, const std::string& path,
                 Json::Array& messages) {
  std::string text;
  Json::Array calls, results;
  for (size_t i = 0; i < blocks.as_array().size(); ++i) {
    Fields block(blocks.as_array()[i], fmt::format("{}[{}]", path, i));
    const std::string type = block.need(block.text("type"), "type");
    block.allow({"cache_control", "citations"});
    if (type == "text") {
      text += (text.empty() ? "" : "\n") + block.need(block.text("text"), "text");
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
      refuse_field(block.full_name("type"), "{} is {}: this model reads text, and calls and results of tools",
                   block.full_name("type"), printable(type, 40));
    }
    block.finish();
  }
  messages.insert(messages.end(), results.begin(), results.end());
  if (text.empty() && calls.empty() && !results.empty()) return;
  Json made = message(role, text);
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
    const Json* content = one.any("content");
    if (content == nullptr) one.refuse_missing("content");
    if (content->is_array() && content->as_array().size() <= kMaxBlocks) {
      read_blocks(*content, role, one.full_name("content"), out);
    } else {
      out.push_back(message(role, read_text(*content, one.full_name("content"))));
    }
    one.finish();
  }
  return out;
}

Json read_variables(Fields& fields, const ServedModel& model) {
  const Json* given = fields.object("thinking");
  if (given == nullptr) return {};
  Fields thinking(*given, "thinking");
  const auto type = thinking.need(thinking.choice("type", {"enabled", "adaptive", "disabled"}), "type");
  if (type != "disabled")
    refuse_field("thinking", "thinking is not told apart from the answer yet: send disabled");
  thinking.finish();
  const bool has_switch = model.need_chat().tells_apart(thinking_variables(true), thinking_variables(false));
  return has_switch ? thinking_variables(false) : Json();
}

std::vector<int32_t> read_prompt(Fields& fields, const ServedModel& model) {
  for (const std::string_view name : {"tools", "tool_choice"})
    fields.refuse(name, "tools are not called yet");
  fields.refuse("output_config", "answers are not constrained to a grammar yet");
  fields.allow({"metadata", "service_tier", "cache_control", "inference_geo"});
  Json::Array messages = read_messages(fields);
  const Json variables = read_variables(fields, model);
  // A last message of the assistant is the beginning of the answer.
  const bool is_begun = messages.back().at("role").as_string() == "assistant";
  std::vector<int32_t> prompt = encode_messages(model, messages, variables, is_begun);
  need_room(model, prompt, "messages");
  return prompt;
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
  std::vector<int32_t> prompt = read_prompt(fields, incoming.model);
  fields.finish();
  ask.choices = choices_of(choice, {std::move(prompt)}, 1);
  ask.encoder = std::make_unique<MessageEncoder>(incoming.model, "msg_" + incoming.http.id);
  return ask;
}

Parsed count_tokens(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  Fields fields(body);
  need_model(incoming, fields.text("model"));
  const std::vector<int32_t> prompt = read_prompt(fields, incoming.model);
  fields.finish();
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
    {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "height", "input": {"of": "Zugspitze"}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "2962 m"}]}]}])";
constexpr std::string_view kCounted =
    R"([{"system": "Be terse.", "messages": [{"role": "user", "content": "Hello"}]}])";

constexpr ApiRoute kRoutes[] = {
    post_route("/v1/messages", parse_message, kMessages),
    post_route("/v1/messages/count_tokens", count_tokens, kCounted),
};

}  // namespace

Dialect anthropic_dialect() { return {"Anthropic", kRoutes, error_body}; }

}  // namespace millrace
