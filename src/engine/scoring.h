// The logits of every position of a known text: for logits and perplexity, which draw nothing.
#pragma once

#include <functional>
#include <span>

#include "engine/runner.h"

namespace millrace {

class Scorer {
 public:
  // For texts of up to `max_tokens`, computed in chunks of up to `chunk` rows. Allocates keys, values and
  // activations. `model` and `backend` must outlive it.
  Scorer(const Model& model, Backend& backend, int64_t max_tokens, int64_t chunk, Dtype kv_dtype);
  // What one with those numbers computes with.
  static RunnerShape shape(const Model& model, int64_t max_tokens, int64_t chunk, Dtype kv_dtype);

  // Calls on_logits with the rows [first, first + n) of logits, float32 (n, n_vocab), chunk by chunk. Throws
  // Error(usage) for a token outside of the vocabulary or more tokens than fit.
  using OnLogits = std::function<void(int64_t first, const Tensor& logits)>;
  void score(std::span<const int32_t> tokens, const OnLogits& on_logits);

 private:
  Scorer(const Model& model, Backend& backend, const RunnerShape& shape, int64_t max_tokens);

  const Model& model_;
  int64_t max_tokens_, chunk_;
  SequenceMemory memory_;
  Runner runner_;
};

}  // namespace millrace
