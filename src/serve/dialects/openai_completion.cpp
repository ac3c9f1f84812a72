// OpenAI's POST /v1/completions, the older API: text in, its continuation out.
#include <algorithm>

#include "serve/dialects/openai.h"
#include "serve/grammar_fields.h"
#include "serve/sampling_fields.h"
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

class CompletionEncoder final : public OpenAiEncoder {
 public:
  CompletionEncoder(const ServedModel& model, std::string id, StreamOptions options,
                    std::vector<int64_t> offsets)
      : OpenAiEncoder(model, std::move(id), options, kObject, kObject), offsets_(std::move(offsets)) {}

  void piece(const Piece& piece, const Totals& totals, std::string& out) override {
    send(whole_choice(piece), totals, out);
  }

 private:
  static constexpr std::string_view kObject = "text_completion";

  Json whole_choice(const Piece& piece) override {
    Json out;
    out["text"] = piece.text;
    out["index"] = piece.choice;
    out["logprobs"] = logprobs(piece);
    out["finish_reason"] = piece.ending ? Json(openai_finish(*piece.ending)) : Json();
    return out;
  }

  // Four lists of equal length. An alternative is named by its text; of two that share it the likelier
  // counts, and the chosen token keeps its own value.
  Json logprobs(const Piece& piece) {
    Json::Array tokens, values, best, offsets;
    for (const GeneratedToken& generated : piece.tokens) {
      if (!generated.logprobs) return {};
      const std::string text = shown_token(model_, generated.id);
      Json alternatives = Json::Object();
      for (const auto& [id, logprob] : generated.logprobs->best) {
        const std::string name = shown_token(model_, id);
        if (alternatives.find(name) == nullptr) alternatives[name] = shown_logprob(logprob);
      }
      alternatives[text] = shown_logprob(generated.logprobs->chosen);
      tokens.emplace_back(text);
      values.emplace_back(shown_logprob(generated.logprobs->chosen));
      best.push_back(std::move(alternatives));
      offsets.emplace_back(offsets_[piece.choice]);
      offsets_[piece.choice] += n_characters(text);
    }
    if (tokens.empty()) return {};
    Json out;
    out["tokens"] = std::move(tokens);
    out["token_logprobs"] = std::move(values);
    out["top_logprobs"] = std::move(best);
    out["text_offset"] = std::move(offsets);
    return out;
  }

  std::vector<int64_t> offsets_;  // characters of each choice so far
};

// A prompt and its text, where it has one.
struct Prompt {
  std::vector<int32_t> ids;
  std::string text;
};

Prompt prompt_of_text(const ServedModel& model, const std::string& text, bool adds_special) {
  return {model.need_tokenizer().encode(text, {.add_special = adds_special, .parse_special = true}), text};
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
  const bool adds_special = fields.boolean("add_special_tokens").value_or(true);
  const Json* given = fields.any("prompt");
  fields.need(given, "prompt");
  if (given->is_string()) return {prompt_of_text(model, given->as_string(), adds_special)};
  if (!given->is_array())
    refuse_field("prompt", "prompt should be a string or a list, found {}", given->type_name());
  const Json::Array& list = given->as_array();
  if (list.empty()) refuse_field("prompt", "prompt is empty, expected at least one");
  if (list.front().is_int()) return {prompt_of_ids(model, *given)};
  if (list.size() > kMaxPrompts)
    refuse_field("prompt", "prompt has {} entries, expected at most {}", list.size(), kMaxPrompts);
  std::vector<Prompt> out;
  for (const Json& each : list) {
    if (!each.is_string() && !each.is_array())
      refuse_field("prompt", "prompt holds {}, expected strings or lists of token ids", each.type_name());
    out.push_back(each.is_string() ? prompt_of_text(model, each.as_string(), adds_special)
                                   : prompt_of_ids(model, each));
  }
  return out;
}

void refuse_others(Fields& fields) {
  fields.refuse_unless("suffix", "", "this model is asked to continue, not to fill in");
  fields.allow({"user"});
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
  choice.request.n_logprobs = static_cast<int>(fields.integer("logprobs", 0, kMaxLogprobs).value_or(-1));
  read_ending(fields, model, choice);
  const int64_t n = fields.integer("n", 1, kMaxChoices).value_or(1);
  fields.refuse_unless("best_of", n, "all choices are returned: let it equal n");
  const bool echoes = fields.boolean("echo").value_or(false);
  if (echoes && choice.request.n_logprobs >= 0)
    refuse_field("logprobs", "logprobs with echo is not served: those of the prompt are not computed");
  refuse_others(fields);
  choice.request.grammar = read_grammar(fields, model.grammars);
  refuse_unserved(fields);
  std::vector<Prompt> prompts = read_prompts(fields, model);
  fields.finish();
  if (std::ssize(prompts) * n > kMaxChoices)
    refuse_field("n", "{} prompts with n {} are more than the {} choices of a request", prompts.size(), n,
                 kMaxChoices);
  std::vector<std::vector<int32_t>> ids;
  for (Prompt& prompt : prompts) {
    need_room(model, prompt.ids, "prompt");
    ids.push_back(std::move(prompt.ids));
  }
  ask.choices = choices_of(choice, std::move(ids), n);
  std::vector<int64_t> offsets(ask.choices.size(), 0);
  for (size_t i = 0; echoes && i < ask.choices.size(); ++i) {
    ask.choices[i].prefix = prompts[ask.choices[i].prompt].text;
    offsets[i] = n_characters(ask.choices[i].prefix);
  }
  ask.encoder =
      std::make_unique<CompletionEncoder>(model, "cmpl-" + incoming.http.id, options, std::move(offsets));
  return ask;
}

}  // namespace millrace
