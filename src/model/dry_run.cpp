#include "model/dry_run.h"

namespace millrace {

void run_dry(const Model& model, Backend& backend, Arena& arena, const KvCache& kv, const StateCache& states,
             const DryRun& width) {
  const auto numbers = [](int64_t n) { return Tensor(nullptr, Dtype::i32, {n}); };
  const Tensor page_tables(nullptr, Dtype::i32, {width.n_sequences, width.n_pages});
  const Batch batch{.tokens = numbers(width.n_rows),
                    .positions = numbers(width.n_rows),
                    .seq_of_row = numbers(width.n_rows),
                    .row_begin = numbers(width.n_sequences + 1),
                    .page_tables = page_tables,
                    .rope_tables = numbers(width.n_sequences),
                    .state_from = numbers(width.n_sequences),
                    .state_to = numbers(width.n_sequences),
                    .logit_rows = numbers(model.shape().gives_embeddings() ? 0 : width.n_logit_rows),
                    .pane_tables = page_tables,
                    .pool_begin = numbers(width.n_logit_rows),
                    .pool_end = numbers(width.n_logit_rows),
                    .token_types = numbers(width.n_rows)};
  model.forward({.backend = backend,
                 .arena = arena,
                 .batch = batch,
                 .kv = kv,
                 .states = states,
                 .wants_scores = width.wants_scores});
}

}  // namespace millrace
