// The engine on a backend whose memory it cannot look into: numbers of a step, logits, copied pages, and what
// is parked and fetched go through copies. On the emulation of a GPU, where a look into its memory ends the
// program, and on splits, whose pages lie in two memories.
#include <gtest/gtest.h>

#include "backend/cuda/cuda.h"
#include "engine/engine_options.h"
#include "engine/offload.h"
#include "engine/testing/hash_model.h"
#include "model/testing/tiny_models.h"
#include "model/weights_of.h"

namespace millrace {
namespace {

using namespace millrace::testing;

// Two prompts that share their beginning down to the middle of a page, and others.
std::vector<Request> requests() {
  std::vector<Request> requests(5);
  for (int i = 0; i < 5; ++i) {
    for (int32_t k = 0; k < 14 + i; ++k)
      requests[static_cast<size_t>(i)].prompt.push_back(i < 2 && k < 10 ? k : (7 * i + k) % 20);
    requests[static_cast<size_t>(i)].max_tokens = 8;
    requests[static_cast<size_t>(i)].ignore_end = true;
    requests[static_cast<size_t>(i)].sampling.temperature = i % 2 == 0 ? 0.0f : 0.8f;
    requests[static_cast<size_t>(i)].sampling.seed = static_cast<uint64_t>(i);
  }
  return requests;
}

Engine::Options options() {
  return {.n_ctx = 32,
          .n_kv_positions = 32,  // just enough for one: they preempt each other
          .page_size = 4,
          .max_rows = 12,
          .max_sequences = 3,
          .kv_dtype = Dtype::f16,
          .snapshot_distance = 4,
          .tier = {.memory_bytes = 16 << 20, .n_kept_tokens = 4},
          .preemption = Preemption::park};
}

void expect_same_alone_and_together(const Model& model, Backend& backend) {
  std::vector<Answer> alone;
  for (const Request& request : requests()) {
    Engine engine(model, backend, options());
    alone.push_back(answer_of(*engine.submit(request).ticket));
    EXPECT_EQ(alone.back().tokens.size(), 8u);
  }
  Engine engine(model, backend, options());
  std::vector<Engine::Ticket> tickets;
  for (const Request& request : requests()) tickets.push_back(*engine.submit(request).ticket);
  for (size_t i = 0; i < tickets.size(); ++i) EXPECT_EQ(answer_of(tickets[i]).tokens, alone[i].tokens) << i;
  EXPECT_GT(engine.stats().n_pages_fetched, 0);
}

TEST(DeviceMemory, ColdEqualsWarm) {
  int n_found = 0;
  for (const auto& [name, checkpoint] : tiny_models()) {
    if (name != "llama" && name != "gemma3" && name != "qwen35") continue;
    SCOPED_TRACE(name);
    ++n_found;
    const auto model = load_model(*checkpoint);
    const auto backend = make_emulated_cuda_backend(EmulatedThreads::ascending);
    backend->hold(weights_of(*model));
    expect_same_alone_and_together(*model, *backend);
  }
  EXPECT_EQ(n_found, 3);
}

// Half of the layers, or all of them without some of the experts. The plan of the engine is the offload's.
TEST(DeviceMemory, ColdEqualsWarmOfASplit) {
  int n_found = 0;
  for (const auto& [name, checkpoint] : tiny_models()) {
    if (name != "qwen3moe" && name != "gemma3" && name != "qwen35" && name != "deepseek2") continue;
    SCOPED_TRACE(name);
    ++n_found;
    const auto model = load_model(*checkpoint);
    const OffloadWish wish = name == "qwen3moe" ? OffloadWish{.n_cpu_moe = 1}
                                                : OffloadWish{.n_gpu_layers = model->shape().n_layers / 2};
    auto gpu = make_emulated_cuda_backend(EmulatedThreads::ascending);
    const Offload plan =
        plan_offload(*model, *checkpoint, runner_shape(*model, options()), wish, {*gpu, int64_t{1} << 30});
    const auto backend = place(plan, std::move(gpu), [] { return make_cpu_backend(1); });
    EXPECT_EQ(backend->name(), "split");
    const MemoryPlan::Part planned = Engine(*model, *backend, options()).memory().on_device;
    EXPECT_EQ(planned.weights_bytes, plan.on_device.weights_bytes);
    EXPECT_EQ(planned.kv_bytes, plan.on_device.kv_bytes);
    EXPECT_EQ(planned.state_bytes, plan.on_device.state_bytes);
    expect_same_alone_and_together(*model, *backend);
  }
  EXPECT_EQ(n_found, 4);
}

}  // namespace
}  // namespace millrace
