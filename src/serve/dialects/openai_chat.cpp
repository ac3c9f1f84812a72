// OpenAI's POST /v1/chat/completions.
#include "serve/dialects/chat_messages.h"
#include "serve/dialects/openai.h"
#include "serve/dialects/tool_fields.h"
#include "serve/sampling_fields.h"

namespace millrace {
namespace {

constexpr int64_t kMaxChoices = 128;
constexpr int64_t kMaxTopLogprobs = 20;

class ChatEncoder final : public OpenAiEncoder {
 public:
  ChatEncoder(const ServedModel& model, std::string id, StreamOptions options)
      : OpenAiEncoder(model, std::move(id), options, "chat.completion.chunk", "chat.completion") {}

  // A chunk for each event, and for the role and the end where there is something to say between them.
  void piece(const Piece& piece, const Totals& totals, std::string& out) override {
    if (states_.size() <= piece.choice) states_.resize(piece.choice + 1);
    State& state = states_[piece.choice];
    Piece rest;  // its tokens belong to the first chunk
    rest.choice = piece.choice;
    const Piece* tokens = &piece;
    const auto send_delta = [&](Json delta) {
      send(chunk_choice(*tokens, std::move(delta), Json()), totals, out);
      tokens = &rest;
    };
    Json begin = Json::Object();
    if (!std::exchange(state.has_begun, true)) {
      begin["role"] = "assistant";
      begin["content"] = "";
    }
    for (const OutputEvent& event : piece.output) {
      Json delta = std::exchange(begin, Json::Object());
      if (add_event(event, state, delta)) send_delta(std::move(delta));
    }
    if (!begin.as_object().empty() || (piece.output.empty() && !piece.tokens.empty()))
      send_delta(std::move(begin));
    if (piece.ending) send(chunk_choice(rest, Json::Object(), openai_finish(*piece.ending)), totals, out);
  }

 private:
  struct State {
    bool has_begun = false;
    size_t n_calls = 0;
  };

  static void add_reasoning(Json& message, const std::string& text) {
    message["reasoning_content"] = text;
    message["reasoning"] = text;  // vLLM's name
  }

  static void add_call(Json& call, const std::string& name, const std::string& arguments) {
    call["id"] = fresh_call_id("call_");
    call["type"] = "function";
    call["function"]["name"] = name;
    call["function"]["arguments"] = arguments;
  }

  // False for an event that says nothing here.
  static bool add_event(const OutputEvent& event, State& state, Json& delta) {
    using Kind = OutputEvent::Kind;
    Json call;
    switch (event.kind) {
      case Kind::content:
        delta["content"] = event.text;
        return true;
      case Kind::reasoning:
        add_reasoning(delta, event.text);
        return true;
      case Kind::call_begin:
        call["index"] = state.n_calls++;
        add_call(call, event.text, "");
        break;
      case Kind::arguments:
        call["index"] = state.n_calls - 1;
        call["function"]["arguments"] = event.text;
        break;
      case Kind::call_end:
        return !delta.as_object().empty();
    }
    delta["tool_calls"] = Json::Array{std::move(call)};
    return true;
  }

  Json whole_choice(const Piece& piece) override {
    const WholeOutput output = whole_output(piece.output);
    Json choice;
    choice["index"] = piece.choice;
    Json& message = choice["message"];
    message["role"] = "assistant";
    message["content"] = output.content.empty() && !output.calls.empty() ? Json() : Json(output.content);
    message["refusal"] = Json();
    if (!output.reasoning.empty()) add_reasoning(message, output.reasoning);
    if (!output.calls.empty()) {
      Json::Array calls;
      for (const auto& [name, arguments] : output.calls) {
        Json call;
        add_call(call, name, arguments);
        calls.push_back(std::move(call));
      }
      message["tool_calls"] = std::move(calls);
    }
    choice["logprobs"] = logprobs(piece);
    choice["finish_reason"] = openai_finish(*piece.ending);
    return choice;
  }

  Json chunk_choice(const Piece& piece, Json delta, Json finish) const {
    Json choice;
    choice["index"] = piece.choice;
    choice["delta"] = std::move(delta);
    choice["logprobs"] = logprobs(piece);
    choice["finish_reason"] = std::move(finish);
    return choice;
  }

  Json logprobs(const Piece& piece) const {
    Json::Array content;
    for (const GeneratedToken& generated : piece.tokens) {
      if (!generated.logprobs) return {};
      Json entry = token_logprob(model_, generated.id, generated.logprobs->chosen);
      Json::Array top;
      for (const auto& [id, logprob] : generated.logprobs->best)
        top.push_back(token_logprob(model_, id, logprob));
      entry["top_logprobs"] = std::move(top);
      content.push_back(std::move(entry));
    }
    if (content.empty()) return {};
    Json out;
    out["content"] = std::move(content);
    out["refusal"] = Json();
    return out;
  }

  std::vector<State> states_;  // by choice
};

int read_logprobs(Fields& fields) {
  const bool wants = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, kMaxTopLogprobs);
  if (top.value_or(0) > 0 && !wants) refuse_field("top_logprobs", "top_logprobs needs \"logprobs\": true");
  return wants ? static_cast<int>(top.value_or(0)) : -1;
}

// What OpenAI's API has and this server does not do, or does in one way alone.
void refuse_others(Fields& fields) {
  fields.refuse_unless("functions", Json::Array(), "use tools");
  fields.refuse("function_call", "use tool_choice");
  fields.refuse("prompt_logprobs", "ask /v1/completions for log-probabilities of a prompt");
  fields.refuse_unless("verbosity", "medium", "the model has no such switch");
  fields.refuse_unless("modalities", Json::Array{"text"}, "the model answers with text alone");
  for (const std::string_view name : {"audio", "prediction", "web_search_options", "moderation"})
    fields.refuse(name, "this server has no such service");
  fields.refuse_unless("store", false, "answers are not stored");
  fields.allow({"metadata", "service_tier", "user", "safety_identifier", "prompt_cache_key",
                "prompt_cache_retention"});
}

// Qwen's name of it, and vLLM's, where -1 is none.
void read_reasoning_limit(Fields& fields, const ServedModel& model, ChatAsk& chat) {
  for (const char* name : {"thinking_budget", "thinking_token_budget"}) {
    const auto limit = fields.integer(name, -1, INT64_MAX);
    if (limit.value_or(-1) >= 0) limit_reasoning(model, *limit, name, chat);
  }
}

// Whether reasoning stands apart from the answer: llama-server's and SGLang's names of that.
bool splits_reasoning(Fields& fields) {
  const auto format = fields.choice("reasoning_format", {"none", "auto", "deepseek"});
  const bool separates = fields.boolean("separate_reasoning").value_or(true);
  fields.refuse_unless("stream_reasoning", true, "reasoning is streamed as it comes");
  fields.refuse_unless("include_reasoning", true, "reasoning is part of what is computed and paid for");
  fields.refuse_unless("parse_tool_calls", true, "leave out the tools");
  return separates && format != "none";
}

}  // namespace

Parsed parse_chat_completion(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  const ServedModel& model = incoming.model;
  Fields fields(body);
  Ask ask = read_ask(incoming, fields);
  const StreamOptions options = read_stream_options(fields, ask.is_streamed);
  Ask::Choice choice;
  choice.request.sampling = read_sampling(fields, model);
  choice.request.n_logprobs = read_logprobs(fields);
  const auto old_limit = fields.integer("max_tokens", 0, INT64_MAX);
  const auto limit = fields.integer("max_completion_tokens", 0, INT64_MAX);
  choice.request.max_tokens = limit ? *limit : old_limit.value_or(-1);
  read_ending(fields, model, choice);
  const int64_t n = fields.integer("n", 1, kMaxChoices).value_or(1);
  refuse_others(fields);
  refuse_unserved(fields);
  ChatAsk chat = read_chat(fields, model);
  read_tool_choice(fields, ToolForm::nested, chat);
  chat.content = find_grammar(fields);
  chat.splits_reasoning = splits_reasoning(fields);
  read_reasoning_limit(fields, model, chat);
  fields.finish();
  std::vector<int32_t> prompt = fill_chat(model, chat, "messages", choice);
  ask.choices = choices_of(choice, {std::move(prompt)}, n);
  ask.encoder = std::make_unique<ChatEncoder>(model, "chatcmpl-" + incoming.http.id, options);
  return ask;
}

}  // namespace millrace
