// OpenAI's POST /v1/responses. Nothing is stored: a conversation is sent anew each time.
#include "serve/dialects/chat_messages.h"
#include "serve/dialects/openai.h"
#include "serve/sampling_fields.h"

namespace millrace {
namespace {

constexpr size_t kMaxItems = 4096;
constexpr size_t kMaxParts = 4096;

// What a reply repeats of its request.
struct Asked {
  Json instructions, max_output_tokens, temperature, top_p, metadata;
};

class ResponseEncoder final : public Encoder {
 public:
  ResponseEncoder(const ServedModel& model, std::string id, int64_t created, Asked asked)
      : model_(model), id_(std::move(id)), created_(created), asked_(std::move(asked)) {}

  void piece(const Piece& piece, const Totals&, std::string& out) override {
    if (!std::exchange(has_begun_, true)) begin(out);
    text_ += piece.text;
    if (!piece.text.empty()) {
      Json event = of_part("response.output_text.delta");
      event["delta"] = piece.text;
      event["logprobs"] = Json::Array();
      send(std::move(event), out);
    }
    if (piece.ending) ending_ = *piece.ending;
  }

  void end(const Totals& totals, std::string& out) override {
    Json text = of_part("response.output_text.done");
    text["text"] = text_;
    text["logprobs"] = Json::Array();
    send(std::move(text), out);
    Json part = of_part("response.content_part.done");
    part["part"] = text_part(text_);
    send(std::move(part), out);
    send(item_event("response.output_item.done", item(text_, status())), out);
    const bool is_complete = ending_.reason != FinishReason::length;
    send(
        response_event(is_complete ? "response.completed" : "response.incomplete", whole_json(text_, totals)),
        out);
  }

  void fault(const ApiError& error, std::string& out) override {
    Json event = of_type("error");
    event["code"] = "server_error";
    event["message"] = error.what();
    event["param"] = Json();
    send(std::move(event), out);
  }

  std::string whole(std::span<const Piece> choices, const Totals& totals) override {
    ending_ = *choices.front().ending;
    return whole_json(choices.front().text, totals).dump();
  }

 private:
  static Json of_type(std::string_view type) {
    Json out;
    out["type"] = type;
    return out;
  }

  void send(Json event, std::string& out) {
    event["sequence_number"] = n_events_++;
    append_event(out, event.at("type").as_string(), event);
  }

  void begin(std::string& out) {
    for (const char* type : {"response.created", "response.in_progress"})
      send(response_event(type, frame("in_progress")), out);
    Json opened = item("", "in_progress");
    opened["content"] = Json::Array();
    send(item_event("response.output_item.added", std::move(opened)), out);
    Json part = of_part("response.content_part.added");
    part["part"] = text_part("");
    send(std::move(part), out);
  }

  Json of_part(std::string_view type) const {
    Json out = of_type(type);
    out["item_id"] = "msg_" + id_;
    out["output_index"] = 0;
    out["content_index"] = 0;
    return out;
  }

  static Json item_event(std::string_view type, Json item) {
    Json out = of_type(type);
    out["output_index"] = 0;
    out["item"] = std::move(item);
    return out;
  }

  static Json response_event(std::string_view type, Json response) {
    Json out = of_type(type);
    out["response"] = std::move(response);
    return out;
  }

  static Json text_part(const std::string& text) {
    Json out = of_type("output_text");
    out["text"] = text;
    out["annotations"] = Json::Array();
    out["logprobs"] = Json::Array();
    return out;
  }

  Json item(const std::string& text, std::string_view status) const {
    Json out = of_type("message");
    out["id"] = "msg_" + id_;
    out["role"] = "assistant";
    out["status"] = status;
    out["content"] = Json::Array{text_part(text)};
    return out;
  }

  std::string_view status() const {
    return ending_.reason == FinishReason::length ? "incomplete" : "completed";
  }

  Json frame(std::string_view status) const {
    Json out;
    out["id"] = "resp_" + id_;
    out["object"] = "response";
    out["created_at"] = created_;
    out["status"] = status;
    out["error"] = Json();
    out["incomplete_details"] = Json();
    out["instructions"] = asked_.instructions;
    out["max_output_tokens"] = asked_.max_output_tokens;
    out["model"] = model_.names.front();
    out["output"] = Json::Array();
    out["parallel_tool_calls"] = true;
    out["previous_response_id"] = Json();
    out["store"] = false;
    out["temperature"] = asked_.temperature;
    out["text"]["format"]["type"] = "text";
    out["tool_choice"] = "none";
    out["tools"] = Json::Array();
    out["top_p"] = asked_.top_p;
    out["truncation"] = "disabled";
    out["usage"] = Json();
    out["metadata"] = asked_.metadata;
    return out;
  }

  Json whole_json(const std::string& text, const Totals& totals) const {
    Json out = frame(status());
    if (ending_.reason == FinishReason::length) out["incomplete_details"]["reason"] = "max_output_tokens";
    out["output"] = Json::Array{item(text, status())};
    Json usage;
    usage["input_tokens"] = totals.n_prompt;
    usage["input_tokens_details"]["cached_tokens"] = totals.n_cached;
    usage["output_tokens"] = totals.n_generated;
    usage["output_tokens_details"]["reasoning_tokens"] = 0;
    usage["total_tokens"] = totals.n_prompt + totals.n_generated;
    out["usage"] = std::move(usage);
    return out;
  }

  const ServedModel& model_;
  const std::string id_;
  const int64_t created_;
  const Asked asked_;
  Ending ending_;
  std::string text_;
  int64_t n_events_ = 0;
  bool has_begun_ = false;
};

std::string read_parts(const Json& content, const std::string& path) {
  if (content.is_string()) return content.as_string();
  if (!content.is_array() || content.as_array().size() > kMaxParts)
    refuse_field(path, "{} should be a string or a list of parts, found {}", path, content.type_name());
  std::string out;
  for (size_t i = 0; i < content.as_array().size(); ++i) {
    Fields part(content.as_array()[i], fmt::format("{}[{}]", path, i));
    const std::string type = part.need(part.text("type"), "type");
    if (type != "input_text" && type != "output_text")
      refuse_field(part.full_name("type"), "{} is {}: this model reads text alone", part.full_name("type"),
                   printable(type, 40));
    out += (i == 0 ? "" : "\n") + part.need(part.text("text"), "text");
    part.allow({"annotations", "logprobs"});
    part.finish();
  }
  return out;
}

Json read_item(const Json& given, const ServedModel& model, const std::string& path) {
  Fields item(given, path);
  if (const auto type = item.text("type"); type && *type != "message")
    refuse_field(item.full_name("type"), "{} is {}: this server reads messages alone", item.full_name("type"),
                 printable(*type, 40));
  std::string role = item.need(item.choice("role", {"system", "developer", "user", "assistant"}), "role");
  if (role == "developer" && !model.template_knows_developer) role = "system";
  const Json* content = item.any("content");
  if (content == nullptr) item.refuse_missing("content");
  const std::string text = read_parts(*content, item.full_name("content"));
  item.allow({"id", "status", "phase"});
  item.finish();
  return message(role, text);
}

Json::Array read_input(Fields& fields, const ServedModel& model) {
  Json::Array messages;
  if (const auto instructions = fields.text("instructions"))
    messages.push_back(message("system", *instructions));
  const Json* input = fields.any("input");
  if (input == nullptr) fields.refuse_missing("input");
  if (input->is_string()) {
    messages.push_back(message("user", input->as_string()));
    return messages;
  }
  if (!input->is_array() || input->as_array().empty() || input->as_array().size() > kMaxItems)
    refuse_field("input", "input should be a string or a list of 1 to {} items", kMaxItems);
  for (size_t i = 0; i < input->as_array().size(); ++i)
    messages.push_back(read_item(input->as_array()[i], model, fmt::format("input[{}]", i)));
  return messages;
}

void refuse_others(Fields& fields) {
  fields.refuse_unless("tools", Json::Array(), "tools are not called yet");
  fields.refuse_unless("tool_choice", "none", "tools are not called yet");
  fields.refuse_unless("parallel_tool_calls", true, "tools are not called yet");
  fields.refuse("max_tool_calls", "tools are not called yet");
  fields.refuse_unless("store", false, "answers are not stored");
  fields.refuse_unless("background", false, "answers are not stored");
  fields.refuse_unless("truncation", "disabled", "no prompt is cut");
  fields.refuse_unless("include", Json::Array(), "this server has nothing more to include");
  for (const std::string_view name : {"previous_response_id", "conversation"})
    fields.refuse(name, "answers are not stored: send the conversation");
  for (const std::string_view name : {"prompt", "context_management", "moderation"})
    fields.refuse(name, "this server has no such service");
  fields.refuse("reasoning", "reasoning is not told apart from the answer yet");
  if (const Json* text = fields.object("text")) {
    Fields inner(*text, "text");
    Json plain;
    plain["type"] = "text";
    inner.refuse_unless("format", plain, "answers are not constrained to a grammar yet");
    inner.refuse_unless("verbosity", "medium", "the model has no such switch");
    inner.finish();
  }
  if (const Json* options = fields.object("stream_options")) {
    Fields inner(*options, "stream_options");
    inner.refuse_unless("include_obfuscation", false, "streams are not padded");
    inner.finish();
  }
  fields.refuse_unless("top_logprobs", 0,
                       "log-probabilities are not returned here: use /v1/chat/completions");
  fields.allow({"user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"});
}

Json member_or_null(const Json& body, std::string_view name) {
  const Json* value = body.find(name);
  return value == nullptr ? Json() : *value;
}

}  // namespace

Parsed parse_response(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  const ServedModel& model = incoming.model;
  Fields fields(body);
  Ask ask = read_ask(incoming, fields);
  Ask::Choice choice;
  choice.request.sampling = read_sampling(fields, model);
  read_ending(fields, model, choice);
  choice.request.max_tokens = fields.integer("max_output_tokens", 1, INT64_MAX).value_or(-1);
  const Json* metadata = fields.object("metadata");
  Asked asked{.instructions = member_or_null(body, "instructions"),
              .max_output_tokens = member_or_null(body, "max_output_tokens"),
              .temperature = double{choice.request.sampling.temperature},
              .top_p = double{choice.request.sampling.top_p},
              .metadata = metadata == nullptr ? Json(Json::Object()) : *metadata};
  refuse_others(fields);
  refuse_unserved(fields);
  const Json::Array messages = read_input(fields, model);
  fields.finish();
  std::vector<int32_t> prompt = encode_messages(model, messages, Json(), false);
  need_room(model, prompt, "input");
  ask.choices = choices_of(choice, {std::move(prompt)}, 1);
  ask.encoder = std::make_unique<ResponseEncoder>(model, incoming.http.id, unix_seconds(), std::move(asked));
  return ask;
}

}  // namespace millrace
