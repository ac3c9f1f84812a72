// A forward without numbers: what it asks a backend for, and what an arena must hold.
#pragma once

#include "model/model.h"

namespace millrace {

// How wide it is.
struct DryRun {
  int64_t n_rows = 1;
  int64_t n_sequences = 1;
  int64_t n_logit_rows = 1;  // or pools, of a model that gives embeddings
  int64_t n_pages = 1;       // of a sequence
  bool wants_scores = false;
};

// Nothing is read or written: `backend` must compute nothing, `arena` measure, and the caches need no memory.
void run_dry(const Model& model, Backend& backend, Arena& arena, const KvCache& kv, const StateCache& states,
             const DryRun& width);

}  // namespace millrace
