// Texts through a model that gives embeddings, for the verbs that do so.
#pragma once

#include <span>
#include <vector>

#include "cli/loaded_model.h"
#include "engine/engine.h"

namespace millrace {

struct EmbeddingSetup {
  Pooling pooling;
  int64_t n_ctx;        // of the longest text
  int64_t n_sequences;  // at once
  int64_t n_texts;      // that may wait
  Dtype kv_dtype;
  bool has_prefix_cache = true;
};
Engine::Options options_for_embeddings(const LoadedModel& loaded, const EmbeddingSetup& setup);

// What becomes of each, in their order. Throws Error(usage) for one that the engine refuses, naming its
// number.
std::vector<Event> embed_all(Engine& engine, std::span<const Request> requests);

}  // namespace millrace
