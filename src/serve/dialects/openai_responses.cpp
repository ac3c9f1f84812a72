// OpenAI's POST /v1/responses. Nothing is stored: a conversation is sent anew each time.
#include "serve/dialects/chat_messages.h"
#include "serve/dialects/openai.h"
#include "serve/dialects/tool_fields.h"
#include "serve/sampling_fields.h"

namespace millrace {
namespace {

constexpr size_t kMaxItems = 4096;
constexpr size_t kMaxParts = 4096;

// What a reply repeats of its request.
struct Asked {
  Json instructions, max_output_tokens, temperature, top_p, metadata;
  Json tools, tool_choice, parallel_tool_calls, format, reasoning;
};

Json of_type(std::string_view type) {
  Json out;
  out["type"] = type;
  return out;
}

// Items stand one after another: reasoning, a message, a call of a function. Of the last one events go out
// while it grows.
class ResponseEncoder final : public Encoder {
 public:
  ResponseEncoder(const ServedModel& model, std::string id, int64_t created, Asked asked)
      : model_(model), id_(std::move(id)), created_(created), asked_(std::move(asked)) {}

  void piece(const Piece& piece, const Totals&, std::string& out) override {
    if (!std::exchange(has_begun_, true)) {
      for (const char* type : {"response.created", "response.in_progress"})
        send(response_event(type, frame("in_progress")), out);
    }
    for (const OutputEvent& event : piece.output) add_event(event, out);
    if (piece.ending) ending_ = *piece.ending;
  }

  void end(const Totals& totals, std::string& out) override {
    close(out);
    const bool is_complete = ending_.reason != FinishReason::length;
    send(response_event(is_complete ? "response.completed" : "response.incomplete", whole_json(totals)), out);
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
    std::string events;  // that nobody is sent
    for (const OutputEvent& event : choices.front().output) add_event(event, events);
    close(events);
    return whole_json(totals).dump();
  }

 private:
  using Kind = OutputEvent::Kind;

  void send(Json event, std::string& out) {
    event["sequence_number"] = n_events_++;
    append_event(out, event.at("type").as_string(), event);
  }

  // ---- items

  void add_event(const OutputEvent& event, std::string& out) {
    if (event.kind == Kind::call_end) return close(out);
    const Kind kind = event.kind == Kind::arguments ? Kind::call_begin : event.kind;
    if (event.kind == Kind::call_begin || !is_open_ || kind_ != kind) {
      close(out);
      open(kind, event.text, out);
    }
    if (event.kind == Kind::call_begin) return;
    text_ += event.text;
    Json delta = of_item(delta_name() + ".delta");
    delta["delta"] = event.text;
    if (kind_ == Kind::content) delta["logprobs"] = Json::Array();
    send(std::move(delta), out);
  }

  void open(Kind kind, const std::string& name, std::string& out) {
    is_open_ = true;
    kind_ = kind;
    text_.clear();
    name_ = name;
    if (kind == Kind::call_begin) call_id_ = fresh_call_id("call_");
    Json opened = item("in_progress");
    if (kind != Kind::call_begin) opened["content"] = Json::Array();
    send(item_event("response.output_item.added", std::move(opened)), out);
    if (kind == Kind::call_begin) return;
    Json part = of_item("response.content_part.added");
    part["part"] = text_part();
    send(std::move(part), out);
  }

  void close(std::string& out) {
    if (!std::exchange(is_open_, false)) return;
    Json done = of_item(delta_name() + ".done");
    done[kind_ == Kind::call_begin ? "arguments" : "text"] = text_;
    if (kind_ == Kind::call_begin) done["name"] = name_;
    if (kind_ == Kind::content) done["logprobs"] = Json::Array();
    send(std::move(done), out);
    if (kind_ != Kind::call_begin) {
      Json part = of_item("response.content_part.done");
      part["part"] = text_part();
      send(std::move(part), out);
    }
    Json made = item(status());
    send(item_event("response.output_item.done", made), out);
    items_.push_back(std::move(made));
  }

  std::string delta_name() const {
    return kind_ == Kind::content     ? "response.output_text"
           : kind_ == Kind::reasoning ? "response.reasoning_text"
                                      : "response.function_call_arguments";
  }

  std::string item_id() const {
    const char* prefix = kind_ == Kind::content ? "msg" : kind_ == Kind::reasoning ? "rs" : "fc";
    return fmt::format("{}_{}_{}", prefix, id_, items_.size());
  }

  Json of_item(std::string_view type) const {
    Json out = of_type(type);
    out["item_id"] = item_id();
    out["output_index"] = items_.size();
    if (kind_ != Kind::call_begin) out["content_index"] = 0;
    return out;
  }

  Json item_event(std::string_view type, Json item) const {
    Json out = of_type(type);
    out["output_index"] = items_.size();
    out["item"] = std::move(item);
    return out;
  }

  static Json response_event(std::string_view type, Json response) {
    Json out = of_type(type);
    out["response"] = std::move(response);
    return out;
  }

  Json text_part() const {
    Json out = of_type(kind_ == Kind::content ? "output_text" : "reasoning_text");
    out["text"] = text_;
    if (kind_ != Kind::content) return out;
    out["annotations"] = Json::Array();
    out["logprobs"] = Json::Array();
    return out;
  }

  Json item(std::string_view status) const {
    Json out = of_type(kind_ == Kind::content     ? "message"
                       : kind_ == Kind::reasoning ? "reasoning"
                                                  : "function_call");
    out["id"] = item_id();
    out["status"] = status;
    if (kind_ == Kind::call_begin) {
      out["call_id"] = call_id_;
      out["name"] = name_;
      out["arguments"] = text_;
      return out;
    }
    if (kind_ == Kind::content) out["role"] = "assistant";
    if (kind_ == Kind::reasoning) out["summary"] = Json::Array();
    out["content"] = Json::Array{text_part()};
    return out;
  }

  // ---- the response

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
    out["parallel_tool_calls"] = asked_.parallel_tool_calls;
    out["previous_response_id"] = Json();
    out["reasoning"] = asked_.reasoning;
    out["store"] = false;
    out["temperature"] = asked_.temperature;
    out["text"]["format"] = asked_.format;
    out["tool_choice"] = asked_.tool_choice;
    out["tools"] = asked_.tools;
    out["top_p"] = asked_.top_p;
    out["truncation"] = "disabled";
    out["usage"] = Json();
    out["metadata"] = asked_.metadata;
    return out;
  }

  Json whole_json(const Totals& totals) const {
    Json out = frame(status());
    if (ending_.reason == FinishReason::length) out["incomplete_details"]["reason"] = "max_output_tokens";
    out["output"] = items_;
    Json usage;
    usage["input_tokens"] = totals.n_prompt;
    usage["input_tokens_details"]["cached_tokens"] = totals.n_cached;
    usage["output_tokens"] = totals.n_generated;
    usage["output_tokens_details"]["reasoning_tokens"] = totals.n_reasoning;
    usage["total_tokens"] = totals.n_prompt + totals.n_generated;
    out["usage"] = std::move(usage);
    return out;
  }

  const ServedModel& model_;
  const std::string id_;
  const int64_t created_;
  const Asked asked_;
  Ending ending_;
  Json::Array items_;  // that are whole
  // The one that grows:
  bool is_open_ = false;
  Kind kind_ = Kind::content;  // content, reasoning or call_begin
  std::string text_, name_, call_id_;
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

// The message of the assistant that an item belongs to: reasoning, text and calls of one turn are one
// message.
Json& assistant_turn(Json::Array& messages) {
  const bool goes_on = !messages.empty() && messages.back().at("role") == Json("assistant");
  return goes_on ? messages.back() : messages.emplace_back(message("assistant", ""));
}

void read_call(Fields& item, Json::Array& messages) {
  Json call;
  call["id"] = item.need(item.text("call_id"), "call_id");
  call["type"] = "function";
  call["function"]["name"] = item.need(item.text("name"), "name");
  call["function"]["arguments"] =
      read_arguments(item.need(item.text("arguments"), "arguments"), item.full_name("arguments"));
  Json& calls = assistant_turn(messages)["tool_calls"];
  if (calls.is_null()) calls = Json::Array();
  calls.as_array().push_back(std::move(call));
}

void read_call_output(Fields& item, Json::Array& messages) {
  const std::string id = item.need(item.text("call_id"), "call_id");
  const Json* output = &item.need(item.any("output"), "output");
  Json result = message("tool", read_parts(*output, item.full_name("output")));
  result["tool_call_id"] = id;
  messages.push_back(std::move(result));
}

void read_reasoning_item(Fields& item, Json::Array& messages) {
  std::string text;
  if (const Json* content = item.array("content", kMaxParts)) {
    for (size_t i = 0; i < content->as_array().size(); ++i) {
      Fields part(content->as_array()[i], fmt::format("{}[{}]", item.full_name("content"), i));
      part.need(part.choice("type", {"reasoning_text"}), "type");
      text += part.need(part.text("text"), "text");
      part.finish();
    }
  }
  item.allow({"summary"});
  item.refuse("encrypted_content", "reasoning of ours is not encrypted");
  if (!text.empty()) assistant_turn(messages)["reasoning_content"] = text;
}

void read_message_item(Fields& item, const ServedModel& model, Json::Array& messages) {
  std::string role = item.need(item.choice("role", {"system", "developer", "user", "assistant"}), "role");
  if (role == "developer" && !model.template_knows_developer) role = "system";
  const Json* content = &item.need(item.any("content"), "content");
  const std::string text = read_parts(*content, item.full_name("content"));
  item.allow({"phase"});
  if (role != "assistant") {
    messages.push_back(message(role, text));
    return;
  }
  Json& turn = assistant_turn(messages);
  turn["content"] = turn.at("content").as_string() + text;
}

void read_item(const Json& given, const ServedModel& model, const std::string& path, Json::Array& messages) {
  Fields item(given, path);
  const std::string type = item.text("type").value_or("message");
  item.allow({"id", "status"});
  if (type == "message") {
    read_message_item(item, model, messages);
  } else if (type == "function_call") {
    read_call(item, messages);
  } else if (type == "function_call_output") {
    read_call_output(item, messages);
  } else if (type == "reasoning") {
    read_reasoning_item(item, messages);
  } else {
    refuse_field(item.full_name("type"),
                 "{} is {}: this server reads message, reasoning, function_call and function_call_output",
                 item.full_name("type"), printable(type, 40));
  }
  item.finish();
}

Json::Array read_input(Fields& fields, const ServedModel& model) {
  Json::Array messages;
  if (const auto instructions = fields.text("instructions"))
    messages.push_back(message("system", *instructions));
  const Json* input = &fields.need(fields.any("input"), "input");
  if (input->is_string()) {
    messages.push_back(message("user", input->as_string()));
    return messages;
  }
  if (!input->is_array() || input->as_array().empty() || input->as_array().size() > kMaxItems)
    refuse_field("input", "input should be a string or a list of 1 to {} items", kMaxItems);
  for (size_t i = 0; i < input->as_array().size(); ++i)
    read_item(input->as_array()[i], model, fmt::format("input[{}]", i), messages);
  return messages;
}

void read_flat_tools(Fields& fields, ChatAsk& ask) {
  const Json* given = fields.array("tools", kMaxTools);
  if (given == nullptr) return;
  for (size_t i = 0; i < given->as_array().size(); ++i) {
    Fields tool(given->as_array()[i], fmt::format("tools[{}]", i));
    const std::string type = tool.need(tool.text("type"), "type");
    if (type != "function")
      refuse_field(tool.full_name("type"), "{} is {}: this server has no tools of its own",
                   tool.full_name("type"), printable(type, 40));
    ask.tools.push_back(read_function(tool));
    tool.finish();
  }
}

void read_text(Fields& fields, ChatAsk& ask) {
  const Json* given = fields.object("text");
  if (given == nullptr) return;
  Fields text(*given, "text");
  text.refuse_unless("verbosity", "medium", "the model has no such switch");
  if (const Json* asked = text.object("format")) {
    Fields format(*asked, "text.format");
    const auto type = format.need(format.choice("type", {"text", "json_object", "json_schema"}), "type");
    if (type == "json_object")
      ask.content =
          AskedGrammar{"text.format", {.kind = GrammarSource::Kind::json_object, .text = {}, .choices = {}}};
    if (type == "json_schema") {
      const Json* schema = &format.need(format.object("schema"), "schema");
      ask.content = schema_grammar("text.format", *schema);
      format.allow({"name", "description", "strict"});
    }
    format.finish();
  }
  text.finish();
}

void read_reasoning(Fields& fields, const ServedModel& model, ChatAsk& ask) {
  const Json* given = fields.object("reasoning");
  if (given == nullptr) return;
  Fields reasoning(*given, "reasoning");
  if (const auto effort =
          reasoning.choice("effort", {"none", "minimal", "low", "medium", "high", "xhigh", "max"}))
    set_reasoning_effort(model, *effort, "reasoning.effort", ask);
  // What the model thinks is given whole, which is more than a summary.
  reasoning.choice("summary", {"auto", "concise", "detailed"});
  reasoning.finish();
}

void refuse_others(Fields& fields) {
  fields.refuse("max_tool_calls", "this server calls no tools itself");
  fields.refuse_unless("store", false, "answers are not stored");
  fields.refuse_unless("background", false, "answers are not stored");
  fields.refuse_unless("truncation", "disabled", "no prompt is cut");
  fields.refuse_unless("include", Json::Array(), "this server has nothing more to include");
  for (const std::string_view name : {"previous_response_id", "conversation"})
    fields.refuse(name, "answers are not stored: send the conversation");
  for (const std::string_view name : {"prompt", "context_management", "moderation"})
    fields.refuse(name, "this server has no such service");
  if (const Json* options = fields.object("stream_options")) {
    Fields inner(*options, "stream_options");
    inner.refuse_unless("include_obfuscation", false, "streams are not padded");
    inner.finish();
  }
  fields.refuse("prompt_logprobs", "ask /v1/completions for log-probabilities of a prompt");
  fields.refuse_unless("top_logprobs", 0,
                       "log-probabilities are not returned here: use /v1/chat/completions");
  fields.allow({"user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"});
}

Json member_or(const Json& body, std::string_view name, const Json& otherwise) {
  const Json* value = body.find(name);
  return value == nullptr || value->is_null() ? otherwise : *value;
}

// What a reply repeats.
Asked asked_of(const Json& body, const Sampling& sampling) {
  Json format;
  format["type"] = "text";
  const Json* text = body.find("text");
  const bool has_tools = !member_or(body, "tools", Json::Array()).as_array().empty();
  return {.instructions = member_or(body, "instructions", {}),
          .max_output_tokens = member_or(body, "max_output_tokens", {}),
          .temperature = double{sampling.temperature},
          .top_p = double{sampling.top_p},
          .metadata = member_or(body, "metadata", Json::Object()),
          .tools = member_or(body, "tools", Json::Array()),
          .tool_choice = member_or(body, "tool_choice", has_tools ? "auto" : "none"),
          .parallel_tool_calls = member_or(body, "parallel_tool_calls", true),
          .format = text == nullptr ? format : member_or(*text, "format", format),
          .reasoning = member_or(body, "reasoning", Json())};
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
  refuse_others(fields);
  refuse_unserved(fields);
  model.need_chat();
  ChatAsk chat;
  chat.messages = read_input(fields, model);
  read_flat_tools(fields, chat);
  read_tool_choice(fields, ToolForm::flat, chat);
  read_text(fields, chat);
  read_reasoning(fields, model, chat);
  fields.object("metadata");
  fields.finish();
  Asked asked = asked_of(body, choice.request.sampling);
  std::vector<int32_t> prompt = fill_chat(model, chat, "input", choice);
  ask.choices = choices_of(choice, {std::move(prompt)}, 1);
  ask.encoder = std::make_unique<ResponseEncoder>(model, incoming.http.id, unix_seconds(), std::move(asked));
  return ask;
}

}  // namespace millrace
