// The end of a model that gives embeddings: rows are pooled, and what becomes of a pool.
#pragma once

#include "model/hparams.h"
#include "model/model.h"
#include "model/weights.h"

namespace millrace {

// All of it is optional.
struct EmbeddingEnd {
  Tensor dense_2;  // (n_inner, hidden): projections of an embedding (EmbeddingGemma)
  Tensor dense_3;  // (n_embedding, n_inner)
  Tensor cls;      // (n_cls, hidden): the classification head, tanh(cls * x + bias), then its output
  Tensor cls_bias;
  Tensor cls_output;  // (n_scores, n_cls)
  Tensor cls_output_bias;
};

// Reads pooling_type. A model whose file asks for pooling gives embeddings instead of logits.
void read_pooling(Hparams& hparams, ModelShape& shape);
// The same of an encoder, which gives nothing else; its file may say that it is not causal.
void read_encoder(Hparams& hparams, ModelShape& shape);

// Adds what `checkpoint` has of the projections, or of the head, and notes in `shape` how wide they are.
void list_dense(WeightList& list, EmbeddingEnd& end, const Checkpoint& checkpoint, ModelShape& shape);
void list_classifier(WeightList& list, EmbeddingEnd& end, const Checkpoint& checkpoint, ModelShape& shape);

// The embeddings (n_pools, n_embedding), or scores (n_pools, n_scores), of the pools of pass.batch over
// `rows` (n_rows, hidden).
Tensor run_embedding_end(const Pass& pass, const EmbeddingEnd& end, const Tensor& rows);

}  // namespace millrace
