#include "engine/engine_options.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/version.h"
#include "engine/memory.h"

namespace millrace {
namespace {

int64_t n_pages_for(int64_t n_positions, int64_t page_size) {
  return (n_positions + page_size - 1) / page_size;
}

int64_t n_running_of(const Engine::Options& options) {
  return std::min(options.max_sequences, options.max_rows);
}

int64_t n_slots_for(const Model& model, const Engine::Options& options) {
  if (model.shape().state_layers.empty()) return 0;
  return n_running_of(options) + (options.has_prefix_cache ? options.n_snapshots : 0);
}

// A window for each sequence that may run, and the rows of a step: nobody waits for panes who has pages.
int64_t n_panes_for(const Model& model, const Engine::Options& options) {
  const int64_t window = longest_window(model.shape().kv_layers), page_size = options.page_size;
  if (window == 0) return 0;
  const int64_t n_enough = n_running_of(options) * Scheduler::enough_panes(window, page_size) +
                           n_pages_for(options.max_rows, page_size) + 1;
  return std::max(Scheduler::enough_panes(window, page_size),
                  std::min(n_pages_for(options.n_kv_positions, page_size), n_enough));
}

// Positions for sequences that fill a step, each with a page that it does not fill.
int64_t n_positions_of_step(const Engine::Options& options) {
  return std::max(options.n_ctx + options.page_size,
                  options.max_rows + 2 * options.max_sequences * options.page_size);
}

// What a model that gives embeddings, or that cannot divide sequences, makes of the options.
void fill_in_embeddings(const Model& model, Engine::Options& options) {
  const ModelShape& shape = model.shape();
  if (options.pooling && !shape.gives_embeddings())
    fail(ErrorKind::usage, "a pooling is given for a model without embeddings");
  if (shape.gives_embeddings() && !options.pooling) options.pooling = shape.pooling;
  if (options.pooling == Pooling::rank && shape.n_scores == 0)
    fail(ErrorKind::usage, "the pooling is rank, and the model has no classification head to rank by");
  if (!shape.is_causal && options.n_ctx > shape.n_ctx_train)
    fail(ErrorKind::usage, "the context is {}, the model has {} positions", options.n_ctx, shape.n_ctx_train);
  if (keeps_sequences_whole(model, options)) options.has_prefix_cache = false;
  if (shape.gives_embeddings() && options.n_kv_positions == 0)
    options.n_kv_positions = n_positions_of_step(options);
}

}  // namespace

SequenceMemory::Shape memory_shape(const Model& model, const Engine::Options& options,
                                   const Backend* backend) {
  const SequenceMemory::Shape shape{
      .kv = {.layers = model.shape().kv_layers,
             .n_pages = n_pages_for(options.n_kv_positions, options.page_size),
             .page_size = options.page_size,
             .dtype = options.kv_dtype,
             .n_panes = n_panes_for(model, options)},
      .states = {.layers = model.shape().state_layers, .n_slots = n_slots_for(model, options)}};
  const bool records = backend != nullptr && backend->can_record() && !model.shape().gives_embeddings();
  return records ? shape.with_spare() : shape;
}

BatchLimits batch_limits(const Model& model, const Engine::Options& options) {
  const int64_t n_seqs = n_running_of(options);
  const bool wants_every_row = model.shape().gives_embeddings() && options.pooling == Pooling::none;
  return {.max_rows = options.max_rows,
          .max_sequences = n_seqs,
          .max_logit_rows = wants_every_row ? options.max_rows : n_seqs,
          .max_pages = n_pages_for(options.n_ctx, options.page_size),
          .pooling = options.pooling.value_or(Pooling::none)};
}

bool keeps_sequences_whole(const Model& model, const Engine::Options& options) {
  return model.shape().needs_whole_sequences(options.pooling.value_or(Pooling::none));
}

Engine::Options filled_in(const Model& model, Engine::Options options) {
  static constexpr int64_t kMax = std::numeric_limits<int32_t>::max();  // positions, rows and pages are int32
  const auto need = [](const char* name, int64_t value, int64_t min) {
    if (value < min || value > kMax)
      fail(ErrorKind::usage, "{} is {}, expected {} to {}", name, value, min, kMax);
  };
  if (options.n_ctx == 0) options.n_ctx = model.shape().n_ctx_train;
  fill_in_embeddings(model, options);
  if (options.n_kv_positions == 0) options.n_kv_positions = options.n_ctx;
  need("the context", options.n_ctx, 1);
  need("the number of kept positions", options.n_kv_positions, options.n_ctx);
  need("the page size", options.page_size, 1);
  need("the rows of a step", options.max_rows, 1);
  need("the number of running sequences", options.max_sequences, 1);
  need("the length of the queue", options.max_waiting, 1);
  need("the number of requests in a minute", options.max_requests_per_minute, 0);
  need("the number of snapshots", options.n_snapshots, 1);
  need("the distance of snapshots", options.snapshot_distance, 1);
  options.snapshot_distance = n_pages_for(options.snapshot_distance, options.page_size) * options.page_size;
  if (keeps_sequences_whole(model, options)) options.tier.memory_bytes = 0;
  if (options.tier.memory_bytes > 0)
    options.tier.memory_bytes =
        std::max(options.tier.memory_bytes, 2 * CacheTier::largest_bytes(memory_shape(model, options)));
  return options;
}

// Bits belong to a machine and a build (docs/adr/0002), and to the types and shapes of what is kept.
std::unique_ptr<CacheTier> make_tier(const Model& model, Backend& backend, const Engine::Options& options,
                                     const SequenceMemory& memory) {
  const Engine::TierOptions& tier = options.tier;
  if (tier.memory_bytes == 0) return nullptr;
  std::string id =
      fmt::format("{}\n{} {}\n{} {} {} {}\n", tier.model_id, version(), build_id(), backend.name(),
                  backend.machine(), format_of(options.kv_dtype).name, options.page_size);
  for (const KvLayer& layer : model.shape().kv_layers) {
    id += fmt::format("{} {} {} {}", layer.n_kv_heads, layer.k_head_dim, layer.v_head_dim, layer.window);
    for (const KvSide& side : layer.sides)
      id += fmt::format(" {}/{}/{}", side.width, side.stride, side.window);
    id += '\n';
  }
  for (const StateLayer& layer : model.shape().state_layers)
    id += fmt::format("{} {} {} {} {} {}\n", layer.n_v_heads, layer.k_head_dim, layer.v_head_dim,
                      layer.n_kept, layer.k_width, layer.v_width);
  return std::make_unique<CacheTier>(memory, PageStore::Options{.memory_bytes = tier.memory_bytes,
                                                                .dir = tier.dir,
                                                                .disk_bytes = tier.disk_bytes,
                                                                .identity = std::move(id),
                                                                .parts_memory = &backend.memory()});
}

RunnerShape runner_shape(const Model& model, const Engine::Options& options, const Backend* backend) {
  const Engine::Options whole = filled_in(model, options);
  return {.memory = memory_shape(model, whole, backend), .limits = batch_limits(model, whole)};
}

MemoryPlan plan_for(const Model& model, const Engine::Options& options, Backend* backend) {
  const SequenceMemory::Shape shape = memory_shape(model, options, backend);
  return {.kv_bytes = shape.kv_bytes(),
          .state_bytes = shape.state_bytes(),
          .arena_bytes = Runner::step_bytes(model, {shape, batch_limits(model, options)}, backend),
          .tier_bytes = options.tier.memory_bytes};
}

MemoryPlan fitting_plan(const Model& model, Backend& backend, const Engine::Options& options) {
  MemoryPlan plan = plan_for(model, options, &backend);
  plan.weights_bytes = options.weights_bytes;
  plan.kv_bytes = plan.state_bytes = 0;  // of all ranks, where there are some
  const int64_t rank_arena_bytes = std::exchange(plan.arena_bytes, 0);
  Memory& memory = backend.memory();
  const std::vector<Memory*> parts = memory.parts();
  // Copies in place of parts of the checkpoint are counted as those.
  const bool is_program_alone = std::ranges::all_of(parts, &Memory::is_of_program);
  plan.program_bytes = program_bytes(options.weights_bytes) - (is_program_alone ? backend.held_bytes() : 0);
  const SequenceMemory::Shape shape = memory_shape(model, options, &backend);
  for (Memory* part : parts) {
    const int64_t kv_bytes = shape.kv_bytes(memory, *part), state_bytes = shape.state_bytes(memory, *part);
    const int64_t arena_bytes = rank_arena_bytes * memory.n_copies(*part);
    plan.kv_bytes += kv_bytes;
    plan.state_bytes += state_bytes;
    plan.arena_bytes = std::max(plan.arena_bytes, arena_bytes);
    const auto kv_bytes_of = [&](int64_t n_positions) {
      Engine::Options fewer = options;
      fewer.n_kv_positions = n_positions;
      fewer.n_ctx = std::min(fewer.n_ctx, n_positions);
      return memory_shape(model, fewer, &backend).kv_bytes(memory, *part);
    };
    // A memory of the backend's own holds its weights already, and nothing that stands beside the cache.
    const bool is_of_program = part->is_of_program();
    if (!is_of_program) {
      plan.on_device.weights_bytes = backend.held_bytes();
      plan.on_device.kv_bytes += kv_bytes;
      plan.on_device.state_bytes += state_bytes;
      plan.on_device.arena_bytes += arena_bytes;
    }
    need_memory({.weights_bytes =
                     is_of_program ? std::max<int64_t>(0, options.weights_bytes - backend.held_bytes()) : 0,
                 .kv_bytes = kv_bytes,
                 .state_bytes = state_bytes,
                 .arena_bytes = arena_bytes,
                 .tier_bytes = is_of_program ? plan.tier_bytes : 0,
                 .n_positions = options.n_kv_positions,
                 .page_size = options.page_size,
                 .n_slots = shape.states.n_slots,
                 .kv_bytes_of = kv_bytes_of,
                 .is_of_program = is_of_program},
                available_memory_bytes(*part));
  }
  return plan;
}

}  // namespace millrace
