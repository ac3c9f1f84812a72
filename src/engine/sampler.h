// From logits to the next token. Pure: what is drawn depends on the logits, the request and the position
// alone, never on neighbours or on what was drawn for others.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/request.h"
#include "engine/shortlist.h"

namespace millrace {

// The name of the first field whose value makes no sense, in a sentence; nothing when all do.
std::optional<std::string> find_fault(const Sampling& sampling, int64_t n_vocab);

// What one sequence carries from token to token.
struct SamplerState {
  std::optional<float> mirostat_mu;  // in bits; begins at 2 * mirostat_tau
  std::vector<uint64_t> allowed;     // one bit a token: it may be drawn now; empty: all may
};

struct Sampled {
  int32_t token = -1;
  std::optional<TokenLogprobs> logprobs;
  std::string_view fault;  // where no token can be drawn: why, in a sentence
};

// Draws the token at position history.size(). `logits` (n_vocab) is overwritten. `history` is the prompt and
// what was generated. Log-probabilities are of the model's own distribution, before anything of `sampling`.
// n_logprobs: as in Request.
Sampled sample(std::span<float> logits, std::span<const int32_t> history, const Sampling& sampling,
               int n_logprobs, SamplerState& state);

// What of the logits such a draw takes to be known, where nothing else of the request needs the row.
ShortlistWish wish_of(const Sampling& sampling, int64_t n_vocab, size_t position);
// The same draw as by the row, from what was wished for; nothing where that does not tell the token.
std::optional<Sampled> sample(const Shortlist& shortlist, int64_t n_vocab, const Sampling& sampling,
                              size_t position);

// The log-probability of `token`, and the n best beside it. NaN where the logits are.
TokenLogprobs score(std::span<const float> logits, int32_t token, int n);

}  // namespace millrace
