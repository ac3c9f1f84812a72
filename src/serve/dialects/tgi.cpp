// Text Generation Inference: /generate, /generate_stream, / and /info.
#include "base/version.h"
#include "serve/dialects/table.h"
#include "serve/grammar_fields.h"
#include "serve/sampling_fields.h"

namespace millrace {
namespace {

constexpr int64_t kDefaultMaxTokens = 1024;
constexpr int64_t kMaxBestOf = 128;

// How the reply to a request that is not streamed is wrapped.
enum class Shape { object, list };

class TgiEncoder final : public Encoder {
 public:
  TgiEncoder(const ServedModel& model, uint64_t seed, std::vector<int32_t> input, bool wants_details,
             Shape shape)
      : model_(model), seed_(seed), input_(std::move(input)), wants_details_(wants_details), shape_(shape) {}

  // An event a token: the text that became certain goes with the last one of a piece.
  void piece(const Piece& piece, const Totals& totals, std::string& out) override {
    text_ += piece.text;
    for (size_t i = 0; i < piece.tokens.size(); ++i) {
      const bool is_last = i + 1 == piece.tokens.size();
      Json event;
      event["index"] = ++n_tokens_;
      event["token"] = token(piece.tokens[i]);
      event["token"]["text"] = is_last ? piece.text : "";
      const bool is_end = is_last && piece.ending;
      event["generated_text"] = is_end ? Json(text_) : Json();
      event["details"] = is_end ? details(*piece.ending, totals.n_generated) : Json();
      append_event(out, event);
    }
    if (piece.ending && piece.tokens.empty()) append_event(out, bare_end(piece, totals));
  }
  void end(const Totals&, std::string&) override {}
  void fault(const ApiError& error, std::string& out) override {
    Json made;
    made["error"] = error.what();
    made["error_type"] = "generation";
    append_event(out, made);
  }

  // Of several choices the first is the answer, and the others are details.
  std::string whole(std::span<const Piece> choices, const Totals&) override {
    Json out;
    out["generated_text"] = choices.front().text;
    if (wants_details_) {
      out["details"] = whole_details(choices.front());
      Json::Array others;
      for (const Piece& other : choices.subspan(1)) {
        Json& one = others.emplace_back(whole_details(other));
        one["generated_text"] = other.text;
      }
      if (!others.empty()) out["details"]["best_of_sequences"] = std::move(others);
    }
    return shape_ == Shape::object ? out.dump() : Json(Json::Array{std::move(out)}).dump();
  }

 private:
  Json token(const GeneratedToken& generated) const {
    Json out;
    out["id"] = int{generated.id};
    out["text"] = shown_token(model_, generated.id);
    out["logprob"] = generated.logprobs ? Json(shown_logprob(generated.logprobs->chosen)) : Json();
    out["special"] =
        model_.tokenizer != nullptr && model_.tokenizer->token_bytes(generated.id, false).empty();
    return out;
  }

  // Of the input, where log-probabilities of it were asked for.
  Json::Array prefill(const Piece& piece) const {
    Json::Array out;
    for (size_t i = 0; i <= piece.prompt_logprobs.size() && !piece.prompt_logprobs.empty(); ++i) {
      Json one;
      one["id"] = int{input_[i]};
      one["text"] = shown_token(model_, input_[i]);
      one["logprob"] = i == 0 ? Json() : Json(shown_logprob(piece.prompt_logprobs[i - 1].chosen));
      out.push_back(std::move(one));
    }
    return out;
  }

  // The end came without a token of its own: an end token, which is shown as special.
  Json bare_end(const Piece& piece, const Totals& totals) {
    Json event;
    event["index"] = ++n_tokens_;
    event["token"]["id"] = model_.end_tokens.empty() ? 0 : int{model_.end_tokens.front()};
    event["token"]["text"] = piece.text;
    event["token"]["logprob"] = 0.0;
    event["token"]["special"] = piece.text.empty();
    event["generated_text"] = text_;
    event["details"] = details(*piece.ending, totals.n_generated);
    return event;
  }

  Json whole_details(const Piece& piece) const {
    Json out = details(*piece.ending, std::ssize(piece.tokens));
    Json::Array tokens;
    for (const GeneratedToken& generated : piece.tokens) tokens.push_back(token(generated));
    out["prefill"] = prefill(piece);
    out["tokens"] = std::move(tokens);
    return out;
  }

  Json details(const Ending& ending, int64_t n_generated) const {
    Json out;
    out["finish_reason"] = ending.reason == FinishReason::length ? "length"
                           : ending.stop.empty()                 ? "eos_token"
                                                                 : "stop_sequence";
    out["generated_tokens"] = n_generated;
    out["seed"] = static_cast<int64_t>(seed_ >> 1);
    out["input_length"] = input_.size();
    return out;
  }

  const ServedModel& model_;
  const uint64_t seed_;
  const std::vector<int32_t> input_;
  const bool wants_details_;
  const Shape shape_;
  std::string text_;
  int64_t n_tokens_ = 0;
};

// {"type": "json" | "json_schema" | "regex", "value": ...}
std::optional<AskedGrammar> read_grammar(Fields& parameters) {
  const Json* given = parameters.object("grammar");
  if (given == nullptr) return std::nullopt;
  Fields grammar(*given, "parameters.grammar");
  const auto type = grammar.need(grammar.choice("type", {"json", "json_schema", "regex"}), "type");
  if (type == "regex") {
    std::string pattern = grammar.need(grammar.text("value"), "value");
    grammar.finish();
    return AskedGrammar{"parameters.grammar",
                        {.kind = GrammarSource::Kind::regex, .text = std::move(pattern), .choices = {}}};
  }
  const Json* value = &grammar.need(grammar.object("value"), "value");
  grammar.finish();
  // A json_schema may come with its name.
  const Json* schema = value->find("schema");
  const bool is_named = type == "json_schema" && schema != nullptr && value->find("type") == nullptr;
  return schema_grammar("parameters.grammar", is_named ? *schema : *value);
}

// do_sample false and no setting that asks for sampling: greedy, as TGI has it.
void read_parameters(Fields& fields, const ServedModel& model, Ask::Choice& choice) {
  Sampling& sampling = choice.request.sampling;
  sampling = Sampling{};
  sampling.temperature = 0.0f;
  const bool is_asked = fields.boolean("do_sample").value_or(false);
  const auto temperature = fields.number("temperature", 1e-6, 100);
  const auto top_p = fields.number("top_p", 1e-6, 1);
  const auto top_k = fields.integer("top_k", 1, INT32_MAX);
  const auto typical_p = fields.number("typical_p", 1e-6, 1);
  if (is_asked || temperature || top_p || top_k || typical_p) {
    sampling.temperature = static_cast<float>(temperature.value_or(1.0));
    sampling.top_p = static_cast<float>(top_p.value_or(1.0));
    sampling.top_k = static_cast<int32_t>(top_k.value_or(0));
    sampling.typical_p = static_cast<float>(typical_p.value_or(1.0));
  }
  sampling.repetition_penalty =
      static_cast<float>(fields.number("repetition_penalty", 1e-3, 100).value_or(1.0));
  sampling.frequency_penalty = static_cast<float>(fields.number("frequency_penalty", -2, 2).value_or(0.0));
  sampling.seed = seed_or_drawn(fields.integer("seed", 0, INT64_MAX));
  choice.request.max_tokens = fields.integer("max_new_tokens", 1, INT64_MAX).value_or(kDefaultMaxTokens);
  choice.stops = fields.texts("stop", 64);
  need_stops(model, choice.stops, "parameters.stop");
  choice.request.end_tokens = model.end_tokens;
  choice.keeps_stop = true;
  choice.request.n_logprobs = 0;
  if (fields.boolean("decoder_input_details").value_or(false)) choice.request.n_prompt_logprobs = 0;
  if (const auto grammar = read_grammar(fields)) choice.request.grammar = compiled(*grammar, model.grammars);
  fields.refuse("top_n_tokens", "alternatives are not returned here: use /v1/completions");
  fields.refuse("truncate", "no prompt is cut");
  fields.refuse_unless("watermark", false, "answers carry no watermark");
  fields.refuse("adapter_id", "adapters are not served");
}

int64_t read_best_of(Fields& parameters, const Ask& ask, const Sampling& sampling) {
  const int64_t n = parameters.integer("best_of", 1, kMaxBestOf).value_or(1);
  if (n > 1 && sampling.temperature == 0.0f)
    refuse_field("parameters.best_of",
                 "parameters.best_of: answers that are not drawn are all the same, ask for do_sample");
  if (n > 1 && ask.is_streamed)
    refuse_field("parameters.best_of",
                 "parameters.best_of: which answer is the best is known when all are there, do not stream");
  return n;
}

Parsed generate(const Incoming& incoming, std::optional<bool> is_streamed, Shape shape) {
  const Json body = json_body(incoming.http);
  const ServedModel& model = incoming.model;
  need_generation(model);
  Fields fields(body);
  const std::string inputs = fields.need(fields.text("inputs"), "inputs");
  static const Json kNone = Json::Object();
  const Json* given = fields.object("parameters");
  const bool asks_stream = fields.boolean("stream").value_or(false);
  fields.finish();
  Fields parameters(given == nullptr ? kNone : *given, "parameters");
  Ask ask;
  ask.is_streamed = is_streamed.value_or(asks_stream);
  Ask::Choice choice;
  read_parameters(parameters, model, choice);
  const int64_t n_drawn = read_best_of(parameters, ask, choice.request.sampling);
  ask.n_best = static_cast<size_t>(n_drawn);  // all of them, in order
  const bool wants_details = parameters.boolean("details").value_or(true);
  if (parameters.boolean("return_full_text").value_or(false)) choice.prefix = inputs;
  parameters.finish();
  if (ask.is_streamed && choice.request.n_prompt_logprobs >= 0)
    refuse_field("parameters.decoder_input_details",
                 "parameters.decoder_input_details comes with a whole answer alone: do not stream");
  std::vector<int32_t> prompt =
      model.need_tokenizer().encode(inputs, {.add_special = true, .parse_special = true});
  need_room(model, prompt, "inputs");
  ask.encoder =
      std::make_unique<TgiEncoder>(model, choice.request.sampling.seed, prompt, wants_details, shape);
  ask.choices = choices_of(choice, {std::move(prompt)}, n_drawn);
  return ask;
}

Parsed parse_generate(const Incoming& incoming) { return generate(incoming, false, Shape::object); }
Parsed parse_stream(const Incoming& incoming) { return generate(incoming, true, Shape::object); }
Parsed parse_root(const Incoming& incoming) { return generate(incoming, std::nullopt, Shape::list); }

Parsed info(const Incoming& incoming) {
  Json out;
  out["model_id"] = incoming.model.names.front();
  out["model_sha"] = Json();
  out["model_pipeline_tag"] = "text-generation";
  out["max_concurrent_requests"] = incoming.model.engine.options().max_sequences;
  out["max_best_of"] = kMaxBestOf;
  out["max_stop_sequences"] = 64;
  out["max_input_tokens"] = incoming.model.n_ctx() - 1;
  out["max_total_tokens"] = incoming.model.n_ctx();
  out["router"] = "millrace";
  out["version"] = version();
  return json_response(out);
}

std::string error_body(const ApiError& error, const std::string&) {
  Json out;
  out["error"] = error.what();
  out["error_type"] = error.status == 429 || error.status == 503 ? "overloaded"
                      : error.status < 500                       ? "validation"
                                                                 : "generation";
  return out.dump();
}

constexpr std::string_view kGenerates =
    R"([{"inputs": "Once upon a time", "parameters": {"max_new_tokens": 50, "temperature": 0.7,
  "grammar": {"type": "regex", "value": "[a-z ]+"}}}])";

constexpr ApiRoute kRoutes[] = {
    post_route("/generate", parse_generate, kGenerates),
    post_route("/generate_stream", parse_stream, kGenerates),
    post_route("/", parse_root, kGenerates),
    {"GET", "/info", info, ApiRoute::Runs::here},
};

}  // namespace

Dialect tgi_dialect() { return {"TGI", kRoutes, error_body}; }

}  // namespace millrace
