#include "serve/sampling_fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "engine/random.h"
#include "text/unicode.h"

namespace millrace {
namespace {

constexpr size_t kMaxStops = 64;
constexpr size_t kMaxStopBytes = 4096;
constexpr size_t kMaxBiases = 4096;
constexpr double kMinLogprob = -9999.0;  // as vLLM clamps
constexpr double kMost = 1e9;

// {"1234": -100} as OpenAI sends it.
std::vector<std::pair<int32_t, float>> read_biases(Fields& fields, const ServedModel& model) {
  const Json* biases = fields.object("logit_bias");
  if (biases == nullptr) return {};
  if (biases->as_object().size() > kMaxBiases)
    refuse_field("logit_bias", "logit_bias has {} entries, expected at most {}", biases->as_object().size(),
                 kMaxBiases);
  std::vector<std::pair<int32_t, float>> out;
  for (const auto& [name, value] : biases->as_object()) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
    const bool is_id = error == std::errc() && end == name.data() + name.size() && id >= 0;
    if (!is_id || id >= model.shape.n_vocab)
      refuse_field("logit_bias", "logit_bias names {}, which is no token of the {} there are",
                   printable(name, 40), model.shape.n_vocab);
    if (!value.is_number() || !(std::abs(value.as_double()) <= 100.0))
      refuse_field("logit_bias", "logit_bias of token {} should be a number from -100 to 100", id);
    out.emplace_back(id, static_cast<float>(value.as_double()));
  }
  return out;
}

void read_dry(Fields& fields, const ServedModel& model, Sampling& sampling) {
  const auto number = [&](std::string_view name, double min, double max, float& value) {
    if (const auto given = fields.number(name, min, max)) value = static_cast<float>(*given);
  };
  number("dry_multiplier", 0, 100, sampling.dry_multiplier);
  number("dry_base", 1, 100, sampling.dry_base);
  if (const auto n = fields.integer("dry_allowed_length", 0, 1 << 20))
    sampling.dry_allowed_length = static_cast<int32_t>(*n);
  if (const auto n = fields.integer("dry_penalty_last_n", -1, INT32_MAX))
    sampling.dry_last_n = static_cast<int32_t>(*n);
  for (const std::string& breaker : fields.texts("dry_sequence_breakers", kMaxStops)) {
    auto ids = model.need_tokenizer().encode(breaker, {.add_special = false});
    if (!ids.empty()) sampling.dry_breakers.push_back(std::move(ids));
  }
}

}  // namespace

Sampling read_sampling(Fields& fields, const ServedModel& model) {
  Sampling out = model.sampling;
  const auto number = [&](std::string_view name, double min, double max, float& value) {
    if (const auto given = fields.number(name, min, max)) value = static_cast<float>(*given);
  };
  const auto integer = [&](std::string_view name, int64_t min, int64_t max, int32_t& value) {
    if (const auto given = fields.integer(name, min, max)) value = static_cast<int32_t>(*given);
  };
  number("temperature", 0, 100, out.temperature);
  number("top_p", 0, 1, out.top_p);
  number("min_p", 0, 1, out.min_p);
  number("typical_p", 0, 1, out.typical_p);
  number("top_n_sigma", -1, kMost, out.top_n_sigma);
  out.top_n_sigma = std::max(0.0f, out.top_n_sigma);
  number("frequency_penalty", -2, 2, out.frequency_penalty);
  number("presence_penalty", -2, 2, out.presence_penalty);
  number("repeat_penalty", 1e-3, 100, out.repetition_penalty);
  number("repetition_penalty", 1e-3, 100, out.repetition_penalty);
  number("xtc_probability", 0, 1, out.xtc_probability);
  number("xtc_threshold", 0, 1, out.xtc_threshold);
  number("mirostat_tau", 0, kMost, out.mirostat_tau);
  number("mirostat_eta", 0, kMost, out.mirostat_eta);
  integer("top_k", -1, INT32_MAX, out.top_k);
  out.top_k = std::max(0, out.top_k);
  integer("repeat_last_n", -1, INT32_MAX, out.penalty_last_n);
  integer("mirostat", 0, 2, out.mirostat);
  read_dry(fields, model, out);
  out.logit_bias = read_biases(fields, model);
  const auto seed =
      fields.integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
  out.seed = seed_or_drawn(seed);
  return out;
}

uint64_t seed_or_drawn(std::optional<int64_t> seed) {
  return seed && *seed != -1 ? static_cast<uint64_t>(*seed) : drawn_seed();
}

void need_stops(const ServedModel& model, const std::vector<std::string>& stops, const std::string& param) {
  for (const std::string& stop : stops) {
    if (stop.empty() || stop.size() > kMaxStopBytes)
      refuse_field(param, "{} holds a string of {} bytes, expected 1 to {}", param, stop.size(),
                   kMaxStopBytes);
  }
  if (!stops.empty()) model.need_tokenizer();
}

void read_ending(Fields& fields, const ServedModel& model, Ask::Choice& choice) {
  choice.stops = fields.texts("stop", kMaxStops);
  need_stops(model, choice.stops, "stop");
  const bool ignores_end = fields.boolean("ignore_eos").value_or(false);
  choice.request.end_tokens = fields.ids("stop_token_ids", kMaxStops).value_or(std::vector<int32_t>());
  if (!ignores_end) {
    auto& ends = choice.request.end_tokens;
    ends.insert(ends.end(), model.end_tokens.begin(), model.end_tokens.end());
  }
  choice.keeps_stop = fields.boolean("include_stop_str_in_output").value_or(false);
  choice.shows_special = !fields.boolean("skip_special_tokens").value_or(true);
}

void refuse_unserved(Fields& fields) {
  fields.refuse_unless("min_tokens", 0, "an answer has no least length");
  fields.refuse_unless("use_beam_search", false, "tokens are drawn, not searched");
  fields.refuse("truncate_prompt_tokens", "no prompt is cut");
  fields.refuse("bad_words", "use logit_bias");
  fields.refuse("allowed_token_ids", "use logit_bias");
  fields.refuse("lora", "adapters are not served");
}

Ask read_ask(const Incoming& incoming, Fields& fields) {
  need_generation(incoming.model);
  need_model(incoming, fields.text("model"));
  Ask ask;
  ask.is_streamed = fields.boolean("stream").value_or(false);
  return ask;
}

std::vector<Ask::Choice> choices_of(const Ask::Choice& choice, std::vector<std::vector<int32_t>> prompts,
                                    int64_t n) {
  std::vector<Ask::Choice> out;
  for (size_t p = 0; p < prompts.size(); ++p) {
    for (int i = 0; i < static_cast<int>(n); ++i) {
      out.push_back(choice);
      out.back().prompt = p;
      out.back().request.prompt = prompts[p];
      out.back().request.sampling.seed = seed_of_choice(choice.request.sampling.seed, i);
    }
  }
  return out;
}

std::string shown_token(const ServedModel& model, int32_t id) {
  return model.tokenizer == nullptr ? std::string() : repair_utf8(model.tokenizer->token_bytes(id, true));
}

Json token_bytes_json(const ServedModel& model, int32_t id) {
  if (model.tokenizer == nullptr) return {};
  Json::Array out;
  for (const char c : model.tokenizer->token_bytes(id, true))
    out.emplace_back(static_cast<int>(static_cast<unsigned char>(c)));
  return out;
}

Json token_logprob(const ServedModel& model, int32_t id, float logprob) {
  Json out;
  out["token"] = shown_token(model, id);
  out["logprob"] = shown_logprob(logprob);
  out["bytes"] = token_bytes_json(model, id);
  return out;
}

double shown_logprob(float logprob) { return std::max(kMinLogprob, double{logprob}); }

}  // namespace millrace
