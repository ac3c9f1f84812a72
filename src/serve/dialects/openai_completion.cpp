// OpenAI's POST /v1/completions, the older API: text in, its continuation out.
#include <algorithm>

#include "serve/dialects/openai.h"
#include "serve/grammar_fields.h"
#include "serve/sampling_fields.h"
#include "text/infill.h"
#include "text/unicode.h"

namespace millrace {
namespace {

constexpr int64_t kMaxChoices = 128;  // of all prompts together
constexpr size_t kMaxPrompts = 128;
constexpr int64_t kMaxLogprobs = 20;
constexpr int64_t kDefaultMaxTokens = 16;

int64_t n_characters(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

// What is said of a choice besides its text.
struct Wanted {
  std::optional<int64_t> n_logprobs;
  bool echo = false, prompt_logprobs = false;
};

// The prompt of a choice, where it is echoed with log-probabilities or they are wanted by themselves.
using PromptIds = std::shared_ptr<const std::vector<int32_t>>;

// The `logprobs` of a choice: four lists of equal length. An alternative is named by its text; of two that
// share it the likelier counts, and the chosen token keeps its own value.
class LogprobLists {
 public:
  LogprobLists(const ServedModel& model, size_t n_best, int64_t& offset)
      : model_(model), n_best_(n_best), offset_(offset) {}

  // nullptr: of the first token of a text nothing can be said. `is_shown`: it is part of the text.
  void add(int32_t token, const TokenLogprobs* logprobs, bool is_shown = true) {
    const std::string text = shown_token(model_, token);
    tokens_.emplace_back(text);
    offsets_.emplace_back(offset_);
    if (is_shown) offset_ += n_characters(text);
    values_.push_back(logprobs == nullptr ? Json() : Json(shown_logprob(logprobs->chosen)));
    best_.push_back(logprobs == nullptr ? Json() : alternatives(text, *logprobs));
  }

  Json json() && {
    if (tokens_.empty()) return {};
    Json out;
    out["tokens"] = std::move(tokens_);
    out["token_logprobs"] = std::move(values_);
    out["top_logprobs"] = std::move(best_);
    out["text_offset"] = std::move(offsets_);
    return out;
  }

 private:
  Json alternatives(const std::string& text, const TokenLogprobs& logprobs) const {
    Json out = Json::Object();
    for (const auto& [id, logprob] :
         std::span(logprobs.best).first(std::min(n_best_, logprobs.best.size()))) {
      const std::string name = shown_token(model_, id);
      if (out.find(name) == nullptr) out[name] = shown_logprob(logprob);
    }
    out[text] = shown_logprob(logprobs.chosen);
    return out;
  }

  const ServedModel& model_;
  const size_t n_best_;  // there may be more
  int64_t& offset_;      // in characters
  Json::Array tokens_, values_, best_, offsets_;
};

class CompletionEncoder final : public OpenAiEncoder {
 public:
  struct Choice {
    PromptIds prompt;
    int64_t offset = 0;  // characters so far
    bool has_begun = false;
  };

  CompletionEncoder(const ServedModel& model, std::string id, StreamOptions options, Wanted wanted,
                    std::vector<Choice> choices)
      : OpenAiEncoder(model, std::move(id), options, kObject, kObject),
        wanted_(wanted),
        choices_(std::move(choices)) {}

  void piece(const Piece& piece, const Totals& totals, std::string& out) override {
    send(whole_choice(piece), totals, out);
  }

 private:
  static constexpr std::string_view kObject = "text_completion";

  Json whole_choice(const Piece& piece) override {
    Json out;
    out["text"] = piece.text;
    out["index"] = piece.choice;
    out["logprobs"] = wanted_.n_logprobs ? logprobs(piece, choices_[piece.choice]) : Json();
    out["finish_reason"] = piece.ending ? Json(openai_finish(*piece.ending)) : Json();
    if (wanted_.prompt_logprobs) out["prompt_logprobs"] = prompt_logprobs(piece);
    return out;
  }

  Json logprobs(const Piece& piece, Choice& choice) const {
    LogprobLists lists(model_, static_cast<size_t>(*wanted_.n_logprobs), choice.offset);
    if (wanted_.echo && !std::exchange(choice.has_begun, true)) {
      const int32_t first = choice.prompt->front();
      lists.add(first, nullptr,
                piece.text.starts_with(shown_token(model_, first)));  // not a BOS that was added
      for (size_t i = 0; i < piece.prompt_logprobs.size(); ++i)
        lists.add((*choice.prompt)[i + 1], &piece.prompt_logprobs[i]);
    }
    for (const GeneratedToken& generated : piece.tokens)
      lists.add(generated.id, generated.logprobs ? &*generated.logprobs : nullptr);
    return std::move(lists).json();
  }

  // vLLM's: of each token of the prompt an object by id, null of the first.
  Json prompt_logprobs(const Piece& piece) const {
    const std::vector<int32_t>& prompt = *choices_[piece.choice].prompt;
    const auto entry = [&](Json& out, int32_t id, float logprob, size_t rank) {
      Json& one = out[std::to_string(id)];
      one = Json::Object();
      one["logprob"] = shown_logprob(logprob);
      one["rank"] = rank;
      one["decoded_token"] = shown_token(model_, id);
    };
    Json::Array out{Json()};
    for (size_t i = 0; i < piece.prompt_logprobs.size(); ++i) {
      const TokenLogprobs& logprobs = piece.prompt_logprobs[i];
      Json one;
      entry(one, prompt[i + 1], logprobs.chosen, static_cast<size_t>(logprobs.rank));
      for (size_t k = 0; k < logprobs.best.size(); ++k) {
        if (logprobs.best[k].first != prompt[i + 1])
          entry(one, logprobs.best[k].first, logprobs.best[k].second, k + 1);
      }
      out.push_back(std::move(one));
    }
    return out;
  }

  const Wanted wanted_;
  std::vector<Choice> choices_;
};

// A prompt and its text, where it has one.
struct Prompt {
  std::vector<int32_t> ids;
  std::string text;
  std::vector<int32_t> end_tokens;  // besides those of any answer
};

// How texts become prompts.
struct Encoding {
  bool adds_special = true;
  std::string suffix;  // of a text to fill in; empty: the prompt is continued
};

Prompt prompt_of_text(const ServedModel& model, const std::string& text, const Encoding& encoding) {
  const Tokenizer& tokenizer = model.need_tokenizer();
  if (encoding.suffix.empty())
    return {tokenizer.encode(text, {.add_special = encoding.adds_special, .parse_special = true}), text, {}};
  auto infill =
      encode_infill(tokenizer, {.prefix = text, .suffix = encoding.suffix, .begun = {}, .files = {}});
  if (!infill)
    refuse_field("suffix",
                 "suffix: the model was not trained to fill in, its vocabulary has no tokens for it");
  return {.ids = std::move(infill->ids), .text = text, .end_tokens = std::move(infill->end_tokens)};
}

Prompt prompt_of_ids(const ServedModel& model, const Json& list) {
  Prompt out;
  for (const Json& id : list.as_array()) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() >= model.shape.n_vocab)
      refuse_field("prompt", "prompt holds {}, expected token ids below {}", printable(id.dump(), 40),
                   model.shape.n_vocab);
    out.ids.push_back(static_cast<int32_t>(id.as_int()));
  }
  if (model.tokenizer != nullptr) out.text = repair_utf8(model.tokenizer->decode(out.ids, true));
  return out;
}

// A string, strings, ids or lists of ids.
std::vector<Prompt> read_prompts(Fields& fields, const ServedModel& model) {
  const Encoding encoding{.adds_special = fields.boolean("add_special_tokens").value_or(true),
                          .suffix = fields.text("suffix").value_or("")};
  const Json* given = fields.any("prompt");
  fields.need(given, "prompt");
  if (given->is_string()) return {prompt_of_text(model, given->as_string(), encoding)};
  if (!given->is_array())
    refuse_field("prompt", "prompt should be a string or a list, found {}", given->type_name());
  const Json::Array& list = given->as_array();
  if (list.empty()) refuse_field("prompt", "prompt is empty, expected at least one");
  const bool has_ids = std::ranges::any_of(list, [](const Json& each) { return !each.is_string(); });
  if (has_ids && !encoding.suffix.empty()) refuse_field("suffix", "suffix needs prompts that are texts");
  if (list.front().is_int()) return {prompt_of_ids(model, *given)};
  if (list.size() > kMaxPrompts)
    refuse_field("prompt", "prompt has {} entries, expected at most {}", list.size(), kMaxPrompts);
  std::vector<Prompt> out;
  for (const Json& each : list) {
    if (!each.is_string() && !each.is_array())
      refuse_field("prompt", "prompt holds {}, expected strings or lists of token ids", each.type_name());
    out.push_back(each.is_string() ? prompt_of_text(model, each.as_string(), encoding)
                                   : prompt_of_ids(model, each));
  }
  return out;
}

}  // namespace

Parsed parse_completion(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  const ServedModel& model = incoming.model;
  Fields fields(body);
  Ask ask = read_ask(incoming, fields);
  const StreamOptions options = read_stream_options(fields, ask.is_streamed);
  Ask::Choice choice;
  choice.request.sampling = read_sampling(fields, model);
  choice.request.max_tokens = fields.integer("max_tokens", 0, INT64_MAX).value_or(kDefaultMaxTokens);
  const auto n_logprobs = fields.integer("logprobs", 0, kMaxLogprobs);
  const auto n_of_prompt = fields.integer("prompt_logprobs", 0, kMaxLogprobs);
  choice.request.n_logprobs = static_cast<int>(n_logprobs.value_or(-1));
  read_ending(fields, model, choice);
  const int64_t n = fields.integer("n", 1, kMaxChoices).value_or(1);
  const int64_t n_drawn = fields.integer("best_of", n, kMaxChoices).value_or(n);
  if (n_drawn > n && ask.is_streamed)
    refuse_field("best_of",
                 "best_of: which choices are the best is known when all are there, leave out stream");
  const Wanted wanted{.n_logprobs = n_logprobs,
                      .echo = fields.boolean("echo").value_or(false),
                      .prompt_logprobs = n_of_prompt.has_value()};
  if (wanted.prompt_logprobs && ask.is_streamed)
    refuse_field("prompt_logprobs", "prompt_logprobs comes with a whole answer alone: leave out stream");
  const int64_t n_echoed = wanted.echo ? n_logprobs.value_or(-1) : -1;
  choice.request.n_prompt_logprobs = static_cast<int>(std::max(n_echoed, n_of_prompt.value_or(-1)));
  fields.allow({"user"});
  choice.request.grammar = read_grammar(fields, model.grammars);
  refuse_unserved(fields);
  std::vector<Prompt> prompts = read_prompts(fields, model);
  fields.finish();
  if (std::ssize(prompts) * n_drawn > kMaxChoices)
    refuse_field("n", "{} prompts with {} choices are more than the {} choices of a request", prompts.size(),
                 n_drawn, kMaxChoices);
  std::vector<std::vector<int32_t>> ids;
  std::vector<PromptIds> kept;
  for (Prompt& prompt : prompts) {
    need_room(model, prompt.ids, "prompt");
    const bool is_kept = choice.request.n_prompt_logprobs >= 0;
    kept.push_back(is_kept ? std::make_shared<const std::vector<int32_t>>(prompt.ids) : nullptr);
    ids.push_back(std::move(prompt.ids));
  }
  if (n_drawn > n) {
    ask.n_best = static_cast<size_t>(n);
    choice.request.n_logprobs = std::max(choice.request.n_logprobs, 0);
  }
  ask.choices = choices_of(choice, std::move(ids), n_drawn);
  std::vector<CompletionEncoder::Choice> choices;
  for (size_t i = 0; i < prompts.size() * static_cast<size_t>(n); ++i)
    choices.push_back({.prompt = kept[i / static_cast<size_t>(n)]});
  for (Ask::Choice& each : ask.choices) {
    const Prompt& prompt = prompts[each.prompt];
    if (wanted.echo) each.prefix = prompt.text;
    auto& ends = each.request.end_tokens;
    ends.insert(ends.end(), prompt.end_tokens.begin(), prompt.end_tokens.end());
  }
  ask.encoder = std::make_unique<CompletionEncoder>(model, "cmpl-" + incoming.http.id, options, wanted,
                                                    std::move(choices));
  return ask;
}

}  // namespace millrace
