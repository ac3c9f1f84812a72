// OpenAI's POST /v1/chat/completions.
#include "serve/dialects/openai.h"
#include "serve/grammar_fields.h"
#include "serve/sampling_fields.h"

namespace millrace {
namespace {

constexpr int64_t kMaxChoices = 128;
constexpr int64_t kMaxTopLogprobs = 20;

class ChatEncoder final : public OpenAiEncoder {
 public:
  ChatEncoder(const ServedModel& model, std::string id, StreamOptions options)
      : OpenAiEncoder(model, std::move(id), options, "chat.completion.chunk", "chat.completion") {}

  void piece(const Piece& piece, const Totals& totals, std::string& out) override {
    if (has_begun_.size() <= piece.choice) has_begun_.resize(piece.choice + 1);
    Json delta = Json::Object();
    if (!has_begun_[piece.choice]) {
      has_begun_[piece.choice] = true;
      delta["role"] = "assistant";
      delta["content"] = "";
    }
    if (!piece.text.empty()) delta["content"] = piece.text;
    // The end is a chunk of its own where there is something to say before it.
    const bool has_content = !delta.as_object().empty() || !piece.tokens.empty();
    if (has_content) send(chunk_choice(piece, std::move(delta), Json()), totals, out);
    if (piece.ending) {
      Piece last;
      last.choice = piece.choice;
      send(chunk_choice(last, Json::Object(), openai_finish(*piece.ending)), totals, out);
    }
  }

 private:
  Json whole_choice(const Piece& piece) override {
    Json choice;
    choice["index"] = piece.choice;
    choice["message"]["role"] = "assistant";
    choice["message"]["content"] = piece.text;
    choice["message"]["refusal"] = Json();
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

  std::vector<bool> has_begun_;  // by choice
};

int read_logprobs(Fields& fields) {
  const bool wants = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, kMaxTopLogprobs);
  if (top.value_or(0) > 0 && !wants) refuse_field("top_logprobs", "top_logprobs needs \"logprobs\": true");
  return wants ? static_cast<int>(top.value_or(0)) : -1;
}

// What OpenAI's API has and this server does not do, or does in one way alone.
void refuse_others(Fields& fields) {
  constexpr std::string_view kTools = "tools are not called yet";
  fields.refuse_unless("tools", Json::Array(), kTools);
  fields.refuse_unless("functions", Json::Array(), kTools);
  fields.refuse_unless("tool_choice", "none", kTools);
  fields.refuse("function_call", kTools);
  fields.refuse_unless("parallel_tool_calls", true, kTools);
  fields.refuse_unless("verbosity", "medium", "the model has no such switch");
  fields.refuse_unless("modalities", Json::Array{"text"}, "the model answers with text alone");
  for (const std::string_view name : {"audio", "prediction", "web_search_options", "moderation"})
    fields.refuse(name, "this server has no such service");
  fields.refuse_unless("store", false, "answers are not stored");
  fields.allow({"metadata", "service_tier", "user", "safety_identifier", "prompt_cache_key",
                "prompt_cache_retention"});
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
  choice.request.grammar = read_grammar(fields, model.grammars);
  refuse_unserved(fields);
  std::vector<int32_t> prompt = read_chat_prompt(fields, model);
  fields.finish();
  ask.choices = choices_of(choice, {std::move(prompt)}, n);
  ask.encoder = std::make_unique<ChatEncoder>(model, "chatcmpl-" + incoming.http.id, options);
  return ask;
}

}  // namespace millrace
