#include "engine/scoring.h"

#include <algorithm>
#include <numeric>

namespace millrace {
namespace {

constexpr int64_t kPageSize = 32;

int64_t n_pages_for(int64_t n_tokens) { return (n_tokens + kPageSize - 1) / kPageSize; }

}  // namespace

RunnerShape Scorer::shape(const Model& model, int64_t max_tokens, int64_t chunk, Dtype kv_dtype) {
  const int64_t n_pages = n_pages_for(max_tokens), n_rows = std::min(chunk, max_tokens);
  return {.memory = {.kv = {.layers = model.shape().kv_layers,
                            .n_pages = n_pages,
                            .page_size = kPageSize,
                            .dtype = kv_dtype,
                            .n_panes = n_pages},
                     .states = {.layers = model.shape().state_layers, .n_slots = 1}},
          .limits = {.max_rows = n_rows, .max_sequences = 1, .max_logit_rows = n_rows, .max_pages = n_pages}};
}

Scorer::Scorer(const Model& model, Backend& backend, int64_t max_tokens, int64_t chunk, Dtype kv_dtype)
    : Scorer(model, backend, shape(model, max_tokens, chunk, kv_dtype), max_tokens) {}

Scorer::Scorer(const Model& model, Backend& backend, const RunnerShape& shape, int64_t max_tokens)
    : model_(model),
      max_tokens_(max_tokens),
      chunk_(shape.limits.max_rows),
      memory_(shape.memory, backend.memory()),
      runner_(model, backend, memory_, shape.limits) {}

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
