// Fields that several dialects have under the same names.
#pragma once

#include "serve/dialect.h"
#include "serve/fields.h"

namespace millrace {

// How a request for an answer begins: `model`, which must be one that generates, and `stream`.
Ask read_ask(const Incoming& incoming, Fields& fields);

// temperature, top_p and whatever else bends the distribution, under the names of OpenAI, vLLM and
// llama-server, over the server's defaults. Without a seed one is drawn.
Sampling read_sampling(Fields& fields, const ServedModel& model);

// What ends a choice: stop, stop_token_ids, include_stop_str_in_output, ignore_eos, skip_special_tokens.
// Fills all of `choice` but its prompt.
void read_ending(Fields& fields, const ServedModel& model, Ask::Choice& choice);

// Throws ApiError for stop strings that make no sense, naming `param`.
void need_stops(const ServedModel& model, const std::vector<std::string>& stops, const std::string& param);

// A seed that was given, or a drawn one; -1, as Ollama and llama-server send it, asks for that.
uint64_t seed_or_drawn(std::optional<int64_t> seed);

// What nothing here can do yet, refused by name: a least length, lists of tokens, beams, adapters.
void refuse_unserved(Fields& fields);

// `n` choices of each prompt, prompt after prompt; each has a seed of its own that follows from the
// request's.
std::vector<Ask::Choice> choices_of(const Ask::Choice& choice, std::vector<std::vector<int32_t>> prompts,
                                    int64_t n);

// The text of a token as it is shown beside its log-probability, repaired where it is no UTF-8.
std::string shown_token(const ServedModel& model, int32_t id);
Json token_bytes_json(const ServedModel& model, int32_t id);
// JSON has no -infinity.
double shown_logprob(float logprob);
// {"token", "logprob", "bytes"}
Json token_logprob(const ServedModel& model, int32_t id, float logprob);

}  // namespace millrace
