#include "cli/embedding_engine.h"

#include <algorithm>

namespace millrace {
namespace {

constexpr int64_t kRowsAStep = 512;  // more where a text that may not be divided has more

}  // namespace

Engine::Options options_for_embeddings(const LoadedModel& loaded, const EmbeddingSetup& setup) {
  const bool is_whole = loaded.model->shape().needs_whole_sequences(setup.pooling);
  return {.n_ctx = setup.n_ctx,
          .max_rows = is_whole ? std::max(kRowsAStep, setup.n_ctx) : kRowsAStep,
          .max_sequences = setup.n_sequences,
          .max_waiting = setup.n_texts,
          .kv_dtype = setup.kv_dtype,
          .pooling = setup.pooling,
          .has_prefix_cache = setup.has_prefix_cache,
          .weights_bytes = loaded.checkpoint->n_bytes()};
}

std::vector<Event> embed_all(Engine& engine, std::span<const Request> requests) {
  std::vector<Engine::Ticket> tickets;
  for (const Request& request : requests) {
    Engine::Submitted submitted = engine.submit(request);
    if (!submitted.ticket) fail(ErrorKind::usage, "text {}: {}", tickets.size() + 1, submitted.refusal);
    tickets.push_back(std::move(*submitted.ticket));
  }
  std::vector<Event> events;
  for (const Engine::Ticket& ticket : tickets) {
    events.push_back(ticket.events->pop().value());
    if (events.back().finish_reason == FinishReason::error)
      fail(ErrorKind::runtime, "text {}: {}", events.size(), events.back().error);
  }
  return events;
}

}  // namespace millrace
