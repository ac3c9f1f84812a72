// A model: weights bound to a family's forward. const after it is made; everything that changes is passed in.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "checkpoint/checkpoint.h"
#include "kv/kv_cache.h"
#include "kv/state_cache.h"
#include "model/pooling.h"
#include "tensor/arena.h"

namespace millrace {

// What one forward needs besides the weights. Nothing in it is kept after the call.
struct Pass {
  Backend& backend;
  Arena& arena;  // activations; the caller releases them
  const Batch& batch;
  const KvCache& kv;
  const StateCache& states;
  bool wants_scores = false;  // of a model with a classification head: pools go through it
};

// What the rest of the house must know of any model.
struct ModelShape {
  std::string family;  // "llama", as general.architecture says it
  int64_t n_layers = 0;
  int64_t n_draft_layers = 0;  // behind them in the file: of multi-token prediction, which nothing runs
  int64_t hidden = 0;
  int64_t n_vocab = 0;
  int64_t n_ctx_train = 0;               // positions the model was trained for
  std::vector<KvLayer> kv_layers;        // what each layer keeps of a position; no heads: nothing
  std::vector<StateLayer> state_layers;  // what each keeps of a sequence; empty where no layer is recurrent
  // longrope: a sequence whose prompt has more positions than this uses rope table 1, the others table 0. 0:
  // one table.
  int64_t long_rope_from = 0;
  // False: a row sees the rows after it too. Such a model keeps no pages, and its sequences are never
  // divided.
  bool is_causal = true;
  int64_t n_embedding = 0;          // elements of an embedding; 0: the model gives logits
  int64_t n_scores = 0;             // of the classification head (a reranker has one); 0: there is none
  int64_t n_token_types = 0;        // kinds of segments that rows are told apart by (BERT); 0: none
  Pooling pooling = Pooling::none;  // what the file asks for; none: it does not say

  bool gives_embeddings() const { return n_embedding > 0; }
  // Whether a sequence must be computed in one step: its rows see each other, or are pooled together.
  bool needs_whole_sequences(Pooling by) const {
    return !is_causal || (gives_embeddings() && by != Pooling::last);
  }
};

class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelShape& shape() const = 0;
  // Runs the rows of pass.batch: writes their keys and values to the pages, returns the logits of
  // batch.logit_rows: float32 (n_logit_rows, n_vocab) in pass.arena. A model that gives embeddings returns
  // those of the batch's pools, as long as they come: (n_pools, n_embedding), or (n_pools, n_scores). Any
  // number of threads may call it with different passes.
  virtual Tensor forward(const Pass& pass) const = 0;
};

// Of latent attention (layers/latent_attention.h): pages keep latents, or the keys and values of all heads,
// which take many times the memory and less arithmetic for long prompts. They differ by rounding.
enum class LatentForm { absorbed, expanded };

// Binds the weights of `checkpoint`, which must outlive the model. Throws Error(bad_model) when the
// architecture is unknown (naming the nearest known one), when a tensor is missing or has another shape, or
// when the metadata asks for something that is not implemented: a model is refused, never run wrongly.
// Error(usage) when there is no latent attention to expand.
std::unique_ptr<Model> load_model(const Checkpoint& checkpoint, LatentForm form = LatentForm::absorbed);

}  // namespace millrace
