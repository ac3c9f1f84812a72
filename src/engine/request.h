// What a client asks of the engine, and what it gets back.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace {

class Grammar;
class ReasoningLimit;

// How the next token is drawn. Applied in the order of the members: bias, penalties, DRY, then temperature
// and the truncations, then the draw. A default leaves the distribution as the model gives it.
struct Sampling {
  std::vector<std::pair<int32_t, float>> logit_bias;  // added to the logits; -inf forbids a token
  float repetition_penalty = 1.0f;  // Keskar et al. 2019: divides positive, multiplies negative logits
  float presence_penalty = 0.0f;    // subtracted once from each token seen
  float frequency_penalty = 0.0f;   // subtracted for each time it was seen
  int32_t penalty_last_n = -1;      // tokens looked back at; -1: the whole sequence, 0: none
  float dry_multiplier = 0.0f;      // DRY: 0 is off
  float dry_base = 1.75f;
  int32_t dry_allowed_length = 2;
  int32_t dry_last_n = -1;
  std::vector<std::vector<int32_t>> dry_breakers;  // token sequences that end a repetition
  float temperature = 1.0f;                        // 0: greedy
  int32_t top_k = 0;                               // 0: all
  float top_p = 1.0f;
  float min_p = 0.0f;
  float typical_p = 1.0f;
  float top_n_sigma = 0.0f;  // keep logits >= max - n * sigma; 0: off
  float xtc_probability = 0.0f;
  float xtc_threshold = 0.1f;
  int mirostat = 0;  // 0 off, 1 or 2: replaces the truncations above
  float mirostat_tau = 5.0f;
  float mirostat_eta = 0.1f;
  uint64_t seed = 0;  // same request, same seed: same tokens
};

struct Request {
  std::vector<int32_t> prompt;  // token ids, at least one
  Sampling sampling;
  int64_t max_tokens = -1;          // -1: until the context is full
  std::vector<int32_t> end_tokens;  // end the answer; not part of it
  bool ignore_end = false;          // end_tokens are then ordinary tokens
  // Every answer matches it, unless max_tokens or the context ends it before; compiled for the vocabulary of
  // the model. Shared: clients send the same schema again and again.
  std::shared_ptr<const Grammar> grammar;
  std::shared_ptr<const ReasoningLimit> reasoning;  // nullptr: it may reason as long as it likes
  int n_logprobs = -1;  // -1: none; n: the chosen token's log-probability and the n best
  // The same of each token of the prompt but the first. What the prefix cache knows of it is computed again.
  int n_prompt_logprobs = -1;
  // So many answers to the one prompt, which is computed once. Answer i draws as if alone with the seed of
  // seed_of_choice().
  int n = 1;
  int priority = 0;  // higher ones go first, and running ones of lower priority make room for them
  std::string key;   // whose it is, any text: keys of one priority get the same share of what is computed
  // What is not done by then ends with FinishReason::deadline, whether it runs or waits.
  std::optional<std::chrono::steady_clock::time_point> deadline;
  // Of a model that gives embeddings, which draws nothing and takes none of the above but the prompt:
  std::vector<int32_t> token_types;  // the segment of each token (BERT's pairs); empty: all 0
  bool normalises = true;            // embeddings get the length 1 (Euclid); scores never do
};

// The seed of answer `index` of a request with n > 1; the first one keeps that of the request.
uint64_t seed_of_choice(uint64_t seed, int index);

enum class FinishReason { stop, length, cancelled, deadline, error };
std::string_view name_of(FinishReason reason);  // "stop", "length", ...

struct TokenLogprobs {
  float chosen = 0.0f;  // log-probability of the token, natural log, before truncations
  int32_t rank = 0;     // 1: no token is likelier
  std::vector<std::pair<int32_t, float>> best;  // n_logprobs of them, descending
};

struct Usage {
  int64_t n_prompt = 0;
  int64_t n_cached = 0;  // of the prompt, taken from the prefix cache
  int64_t n_generated = 0;
  double queue_s = 0.0;  // from submit() until it was first computed
};

// One step of one answer. The last event of each answer has a finish_reason; after that of the last one of
// them the channel is closed.
struct Event {
  int index = 0;                 // which of the n answers
  std::optional<int32_t> token;  // absent in a last event that brings no token
  std::optional<TokenLogprobs> logprobs;
  std::vector<TokenLogprobs> prompt_logprobs;  // in the first event of all answers, from token 1 on
  std::optional<FinishReason> finish_reason;
  // Of a model that gives embeddings, in the one event there is: n_embedding elements, or n_scores of them
  // where the pooling is rank. Without pooling those of every position, one after another.
  std::vector<float> embedding;
  Usage usage;        // of this answer, so far
  std::string error;  // one sentence, where finish_reason is error
};

// Why a request is not taken. The first two are its own fault and stay so (HTTP 400); the next two pass
// (429). After the last one no request is taken any more (503).
enum class RefusalReason { bad_request, over_context, rate, queue_full, device_lost };

}  // namespace millrace
