#include "engine/scoring.h"

#include <algorithm>
#include <numeric>

namespace millrace {
namespace {

constexpr int64_t kPageSize = 32;

int64_t n_pages_for(int64_t n_tokens) { return (n_tokens + kPageSize - 1) / kPageSize; }

}  // namespace

Scorer::Scorer(const Model& model, Backend& backend, int64_t max_tokens, int64_t chunk, Dtype kv_dtype)
    : model_(model),
      max_tokens_(max_tokens),
      chunk_(std::min(chunk, max_tokens)),
      memory_({.kv = {.layers = model.shape().kv_layers,
                      .n_pages = n_pages_for(max_tokens),
                      .page_size = kPageSize,
                      .dtype = kv_dtype,
                      .n_panes = n_pages_for(max_tokens)},
               .states = {.layers = model.shape().state_layers, .n_slots = 1}},
              backend.memory()),
      runner_(model, backend, memory_,
              {.max_rows = chunk_,
               .max_sequences = 1,
               .max_logit_rows = chunk_,
               .max_pages = n_pages_for(max_tokens)}) {}

void Scorer::score(std::span<const int32_t> tokens, const OnLogits& on_logits) {
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  if (n_tokens > max_tokens_) fail(ErrorKind::usage, "{} tokens, expected at most {}", n_tokens, max_tokens_);
  for (const int32_t token : tokens) {
    if (token < 0 || token >= model_.shape().n_vocab) {
      fail(ErrorKind::usage, "token {} is none of the {} of the vocabulary", token, model_.shape().n_vocab);
    }
  }
  Sequence sequence;
  sequence.tokens.assign(tokens.begin(), tokens.end());
  sequence.rope_table = model_.shape().long_rope_from > 0 && n_tokens > model_.shape().long_rope_from ? 1 : 0;
  sequence.pages.resize(static_cast<size_t>(n_pages_for(n_tokens)));
  std::iota(sequence.pages.begin(), sequence.pages.end(), 0);
  for (int64_t begin = 0; begin < n_tokens; begin += chunk_) {
    const Slot state_from = begin == 0 ? -1 : 0;
    on_logits(begin,
              runner_.run_all_logits({&sequence, begin, std::min(n_tokens, begin + chunk_), state_from, 0}));
  }
}

}  // namespace millrace
