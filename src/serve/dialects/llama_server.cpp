// The routes of llama-server, and those of vLLM that share their names.
#include <algorithm>

#include "base/version.h"
#include "serve/dialects/chat_messages.h"
#include "serve/dialects/openai.h"
#include "serve/dialects/table.h"
#include "serve/grammar_fields.h"
#include "serve/sampling_fields.h"
#include "text/infill.h"
#include "text/unicode.h"

namespace millrace {
namespace {

constexpr size_t kMaxFiles = 256;

Json timings(const Totals& totals) {
  const auto rate = [](int64_t n, double seconds) {
    return seconds > 0 ? static_cast<double>(n) / seconds : 0.0;
  };
  const double decode_s = totals.total_s - totals.first_token_s;
  Json out;
  out["cache_n"] = totals.n_cached;
  out["prompt_n"] = totals.n_prompt - totals.n_cached;
  out["prompt_ms"] = totals.first_token_s * 1e3;
  out["prompt_per_second"] = rate(totals.n_prompt - totals.n_cached, totals.first_token_s);
  out["predicted_n"] = totals.n_generated;
  out["predicted_ms"] = decode_s * 1e3;
  out["predicted_per_second"] = rate(totals.n_generated, decode_s);
  return out;
}

class LlamaEncoder final : public Encoder {
 public:
  LlamaEncoder(const ServedModel& model, std::string prompt, bool returns_tokens)
      : model_(model), prompt_(std::move(prompt)), returns_tokens_(returns_tokens) {}

  void piece(const Piece& piece, const Totals& totals, std::string& out) override {
    for (const char c : piece.text) has_new_line_ |= c == '\n';
    if (piece.ending) {
      append_event(out, last(piece, totals));
    } else {
      Json made = content(piece);
      made["stop"] = false;
      append_event(out, made);
    }
  }
  void end(const Totals&, std::string&) override {}
  void fault(const ApiError& error, std::string& out) override { append_event(out, openai_error(error)); }

  std::string whole(std::span<const Piece> choices, const Totals& totals) override {
    if (choices.size() == 1) return last(choices.front(), totals).dump();
    Json::Array all;
    for (const Piece& piece : choices) all.push_back(last(piece, totals));
    return Json(std::move(all)).dump();
  }

 private:
  Json content(const Piece& piece) const {
    Json out;
    out["index"] = piece.choice;
    out["content"] = piece.text;
    Json::Array ids;
    for (const GeneratedToken& generated : piece.tokens) ids.emplace_back(int{generated.id});
    out["tokens"] = returns_tokens_ ? std::move(ids) : Json::Array();
    if (!piece.tokens.empty() && piece.tokens.front().logprobs)
      out["completion_probabilities"] = probabilities(piece);
    return out;
  }

  Json last(const Piece& piece, const Totals& totals) const {
    Json out = content(piece);
    out["id_slot"] = -1;
    out["stop"] = true;
    out["model"] = model_.names.front();
    out["tokens_predicted"] = totals.n_generated;
    out["tokens_evaluated"] = totals.n_prompt;
    out["prompt"] = prompt_;
    out["has_new_line"] = has_new_line_ || piece.text.find('\n') != std::string::npos;
    out["truncated"] = false;
    out["stop_type"] = piece.ending->reason == FinishReason::length ? "limit"
                       : piece.ending->stop.empty()                 ? "eos"
                                                                    : "word";
    out["stopping_word"] = piece.ending->stop;
    out["tokens_cached"] = totals.n_cached;
    out["timings"] = timings(totals);
    return out;
  }

  Json token(int32_t id, float logprob) const {
    Json out;
    out["id"] = int{id};
    out["token"] = shown_token(model_, id);
    out["bytes"] = token_bytes_json(model_, id);
    out["logprob"] = shown_logprob(logprob);
    return out;
  }

  Json probabilities(const Piece& piece) const {
    Json::Array out;
    for (const GeneratedToken& generated : piece.tokens) {
      Json one = token(generated.id, generated.logprobs->chosen);
      Json::Array top;
      for (const auto& [id, logprob] : generated.logprobs->best) top.push_back(token(id, logprob));
      one["top_logprobs"] = std::move(top);
      out.push_back(std::move(one));
    }
    return out;
  }

  const ServedModel& model_;
  const std::string prompt_;
  const bool returns_tokens_;
  bool has_new_line_ = false;
};

// A text, ids, or both mixed.
std::vector<int32_t> read_prompt(const Json& given, const ServedModel& model) {
  if (given.is_string())
    return model.need_tokenizer().encode(given.as_string(), {.add_special = true, .parse_special = true});
  if (!given.is_array())
    refuse_field("prompt", "prompt should be a string or a list, found {}", given.type_name());
  std::vector<int32_t> out;
  for (const Json& part : given.as_array()) {
    if (part.is_int() && part.as_int() >= 0 && part.as_int() < model.shape.n_vocab) {
      out.push_back(static_cast<int32_t>(part.as_int()));
    } else if (part.is_string()) {
      const auto ids = model.need_tokenizer().encode(part.as_string(),
                                                     {.add_special = out.empty(), .parse_special = true});
      out.insert(out.end(), ids.begin(), ids.end());
    } else {
      refuse_field("prompt", "prompt holds {}, expected texts and token ids", printable(part.dump(), 40));
    }
  }
  return out;
}

struct Prompt {
  std::vector<int32_t> ids;
  std::vector<int32_t> end_tokens;
};
// Nothing where the model knows no such prompt.
using ReadPrompt = std::optional<Prompt> (*)(Fields&, const ServedModel&);

std::optional<Prompt> read_completion_prompt(Fields& fields, const ServedModel& model) {
  return Prompt{.ids = read_prompt(fields.need(fields.any("prompt"), "prompt"), model), .end_tokens = {}};
}

std::vector<InfillText::File> read_files(Fields& fields) {
  std::vector<InfillText::File> out;
  const Json* given = fields.array("input_extra", kMaxFiles);
  for (size_t i = 0; given != nullptr && i < given->as_array().size(); ++i) {
    Fields one(given->as_array()[i], fmt::format("input_extra[{}]", i));
    out.push_back({.name = one.text("filename").value_or(""), .text = one.need(one.text("text"), "text")});
    one.finish();
  }
  return out;
}

std::optional<Prompt> read_infill_prompt(Fields& fields, const ServedModel& model) {
  const InfillText text{.prefix = fields.need(fields.text("input_prefix"), "input_prefix"),
                        .suffix = fields.need(fields.text("input_suffix"), "input_suffix"),
                        .begun = fields.text("prompt").value_or(""),
                        .files = read_files(fields)};
  auto prompt = encode_infill(model.need_tokenizer(), text);
  if (!prompt) return std::nullopt;
  return Prompt{.ids = std::move(prompt->ids), .end_tokens = std::move(prompt->end_tokens)};
}

Parsed parse_with(const Incoming& incoming, ReadPrompt read) {
  const Json body = json_body(incoming.http);
  const ServedModel& model = incoming.model;
  Fields fields(body);
  Ask ask = read_ask(incoming, fields);
  Ask::Choice choice;
  choice.request.sampling = read_sampling(fields, model);
  read_ending(fields, model, choice);
  const auto n_predict = fields.integer("n_predict", -2, INT64_MAX);
  const auto max_tokens = fields.integer("max_tokens", -1, INT64_MAX);
  choice.request.max_tokens = std::max<int64_t>(-1, n_predict ? *n_predict : max_tokens.value_or(-1));
  if (const int64_t n = fields.integer("n_probs", 0, 100).value_or(0); n > 0)
    choice.request.n_logprobs = static_cast<int>(n);
  const bool returns_tokens = fields.boolean("return_tokens").value_or(false);
  fields.refuse_unless("dynatemp_range", 0, "the temperature is one number");
  fields.refuse_unless("n_indent", 0, "answers have no least indentation");
  fields.refuse_unless("t_max_predict_ms", 0, "answers are limited in tokens");
  fields.refuse_unless("post_sampling_probs", false, "probabilities are those before sampling");
  fields.refuse_unless("n_keep", 0, "a context is never shifted");
  fields.refuse_unless("min_keep", 0, "truncations keep what they keep");
  fields.refuse("prompt_logprobs", "ask /v1/completions for log-probabilities of a prompt");
  fields.refuse("samplers", "samplers run in one order");
  fields.refuse("response_fields", "replies are whole");
  fields.refuse("image_data", "this model reads text alone");
  fields.allow({"cache_prompt", "id_slot", "dynatemp_exponent", "timings_per_token"});
  choice.request.grammar = read_grammar(fields, model.grammars);
  refuse_unserved(fields);
  std::optional<Prompt> prompt = read(fields, model);
  fields.finish();
  if (!prompt)
    throw ApiError(400, "the model was not trained to fill in: its vocabulary has no tokens for that",
                   "model");
  need_room(model, prompt->ids, "prompt");
  auto& ends = choice.request.end_tokens;
  ends.insert(ends.end(), prompt->end_tokens.begin(), prompt->end_tokens.end());
  std::string shown =
      model.tokenizer == nullptr ? "" : repair_utf8(model.tokenizer->decode(prompt->ids, true));
  ask.choices = choices_of(choice, {std::move(prompt->ids)}, 1);
  ask.encoder = std::make_unique<LlamaEncoder>(model, std::move(shown), returns_tokens);
  return ask;
}

Parsed parse_completion(const Incoming& incoming) { return parse_with(incoming, read_completion_prompt); }
Parsed parse_infill(const Incoming& incoming) { return parse_with(incoming, read_infill_prompt); }

Json id_list(const std::vector<int32_t>& ids) { return Json(Json::Array(ids.begin(), ids.end())); }

// llama-server sends content, vLLM prompt or messages, TGI inputs: each is answered in its own shape.
Parsed tokenize(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  const ServedModel& model = incoming.model;
  const Tokenizer& tokenizer = model.need_tokenizer();
  Fields fields(body);
  need_model(incoming, fields.text("model"));
  Json out;
  if (const auto inputs = fields.text("inputs")) {
    const bool adds = fields.boolean("add_special_tokens").value_or(true);
    fields.finish();
    Json::Array list;
    for (const int32_t id : tokenizer.encode(*inputs, {.add_special = adds})) {
      Json one;
      one["id"] = int{id};
      one["text"] = shown_token(model, id);
      list.push_back(std::move(one));
    }
    return json_response(Json(std::move(list)));
  }
  if (const auto content = fields.text("content")) {
    const bool adds = fields.boolean("add_special").value_or(false);
    const bool parses = fields.boolean("parse_special").value_or(true);
    const bool with_pieces = fields.boolean("with_pieces").value_or(false);
    fields.finish();
    const auto ids = tokenizer.encode(*content, {.add_special = adds, .parse_special = parses});
    Json::Array pieces;
    for (const int32_t id : ids) {
      Json one;
      one["id"] = int{id};
      const std::string bytes = tokenizer.token_bytes(id, true);
      one["piece"] = is_valid_utf8(bytes) ? Json(bytes) : token_bytes_json(model, id);
      pieces.push_back(std::move(one));
    }
    out["tokens"] = with_pieces ? Json(std::move(pieces)) : id_list(ids);
    return json_response(out);
  }
  std::vector<int32_t> ids;
  const bool with_texts = fields.boolean("return_token_strs").value_or(false);
  if (const auto prompt = fields.text("prompt")) {
    const bool adds = fields.boolean("add_special_tokens").value_or(true);
    ids = tokenizer.encode(*prompt, {.add_special = adds, .parse_special = true});
  } else {
    ids = read_chat_prompt(fields, model);
    fields.refuse_unless("add_special_tokens", false, "templates write them");
  }
  fields.finish();
  out["count"] = ids.size();
  out["max_model_len"] = model.n_ctx();
  out["tokens"] = id_list(ids);
  if (with_texts) {
    Json::Array texts;
    for (const int32_t id : ids) texts.emplace_back(tokenizer.piece(id));
    out["token_strs"] = std::move(texts);
  }
  return json_response(out);
}

// llama-server calls the text content, vLLM prompt.
Parsed detokenize(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  Fields fields(body);
  need_model(incoming, fields.text("model"));
  const std::vector<int32_t> ids = fields.need(fields.ids("tokens", size_t{1} << 24), "tokens");
  fields.finish();
  const std::string text = repair_utf8(incoming.model.need_tokenizer().decode(ids, true));
  Json out;
  out["content"] = text;
  out["prompt"] = text;
  return json_response(out);
}

Parsed apply_template(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  Fields fields(body);
  need_model(incoming, fields.text("model"));
  const std::vector<int32_t> ids = read_chat_prompt(fields, incoming.model);
  fields.finish();
  Json out;
  out["prompt"] = repair_utf8(incoming.model.need_tokenizer().decode(ids, true));
  return json_response(out);
}

Parsed props(const Incoming& incoming) {
  const ServedModel& model = incoming.model;
  const Sampling& sampling = model.sampling;
  Json out;
  Json& params = out["default_generation_settings"]["params"];
  params["temperature"] = double{sampling.temperature};
  params["top_k"] = int{sampling.top_k};
  params["top_p"] = double{sampling.top_p};
  params["min_p"] = double{sampling.min_p};
  params["repeat_penalty"] = double{sampling.repetition_penalty};
  out["default_generation_settings"]["n_ctx"] = model.n_ctx();
  out["total_slots"] = model.engine.options().max_sequences;
  out["model_path"] = model.names.front();
  out["chat_template"] = model.template_source;
  out["modalities"]["vision"] = false;
  out["modalities"]["audio"] = false;
  out["build_info"] = fmt::format("millrace {}", version());
  return json_response(out);
}

// Sequences have no places of their own here: as many slots as run at most, the first ones busy.
Parsed slots(const Incoming& incoming) {
  const int64_t n_running = incoming.model.engine.stats().n_running;
  Json::Array list;
  for (int64_t i = 0; i < incoming.model.engine.options().max_sequences; ++i) {
    Json slot;
    slot["id"] = i;
    slot["n_ctx"] = incoming.model.n_ctx();
    slot["speculative"] = false;
    slot["is_processing"] = i < n_running;
    list.push_back(std::move(slot));
  }
  return json_response(Json(std::move(list)));
}

Parsed tokenizer_info(const Incoming& incoming) {
  const Tokenizer& tokenizer = incoming.model.need_tokenizer();
  Json out;
  if (const auto bos = tokenizer.bos()) out["bos_token"] = tokenizer.piece(*bos);
  if (const auto eos = tokenizer.eos()) out["eos_token"] = tokenizer.piece(*eos);
  out["chat_template"] = incoming.model.template_source;
  return json_response(out);
}

Parsed show_version(const Incoming&) {
  Json out;
  out["version"] = version();
  return json_response(out);
}

std::string error_body(const ApiError& error, const std::string&) {
  Json out = openai_error(error);
  out["error"]["code"] = error.status;
  if (error.code == "context_length_exceeded") out["error"]["type"] = "exceed_context_size_error";
  return out.dump();
}

constexpr std::string_view kCompletions = R"([
  {"prompt": "Once upon a time", "n_predict": 50, "structured_outputs": {"regex": "[a-z ]+"}},
  {"prompt": ["Once", 32], "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "integer"}}}}])";
constexpr std::string_view kInfills = R"([
  {"input_prefix": "def add(a, b):\n    return ", "input_suffix": "\n", "n_predict": 20,
   "input_extra": [{"filename": "main.py", "text": "three = add(1, 2)\n"
}]
}])";
constexpr std::string_view kTokenizes = R"([
  {"content": "Hello", "with_pieces": true},
  {"prompt": "Hello", "return_token_strs": true},
  {"messages": [{"role": "user", "content": "Hello"}]},
  {"inputs": "Hello"}])";
constexpr std::string_view kDetokenizes = R"([{"tokens": [1, 2, 3]}])";
constexpr std::string_view kTemplates = R"([{"messages": [{"role": "user", "content": "Hello"}]}])";

using enum ApiRoute::Runs;

constexpr ApiRoute kRoutes[] = {
    post_route("/completion", parse_completion, kCompletions),
    post_route("/completions", parse_completion, kCompletions),
    post_route("/infill", parse_infill, kInfills),
    post_route("/tokenize", tokenize, kTokenizes),
    post_route("/detokenize", detokenize, kDetokenizes),
    post_route("/apply-template", apply_template, kTemplates),
    {"GET", "/props", props, here},
    {"GET", "/slots", slots, here},
    {"GET", "/tokenizer_info", tokenizer_info, here},
    {"GET", "/version", show_version, here},
};

}  // namespace

Dialect llama_server_dialect() { return {"llama-server", kRoutes, error_body}; }

}  // namespace millrace
