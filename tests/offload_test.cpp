// Models that are divided between a GPU (emulated, with a memory that the program cannot look into) and the
// processor: what leaves the GPU first, what that takes in either memory, which ops run where, and their
// bits.
#include "engine/offload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "backend/cuda/cuda.h"
#include "backend/op_operands.h"
#include "engine/engine_options.h"
#include "model/testing/driver.h"
#include "model/testing/tiny_embedding_models.h"
#include "model/testing/tiny_models.h"
#include "model/weights_of.h"

namespace millrace {
namespace {

using testing::Driver;
using testing::TinyModel;

constexpr int64_t kPlenty = int64_t{1} << 30;

std::unique_ptr<Backend> make_gpu() { return make_emulated_cuda_backend(EmulatedThreads::ascending); }

std::vector<TinyModel> all_models() {
  std::vector<TinyModel> models = testing::tiny_models();
  for (TinyModel& each : testing::tiny_embedding_models()) models.push_back(std::move(each));
#ifdef MILLRACE_SANITIZED  // the emulation is slow there
  std::erase_if(models, [](const TinyModel& each) {
    return each.name != "llama" && each.name != "qwen3moe" && each.name != "deepseek2";
  });
#endif
  return models;
}

// One whose head is another matrix than its table.
std::unique_ptr<Checkpoint> model_of_experts() {
  auto checkpoint = testing::tiny_qwen3moe();
  checkpoint->add_random("output.weight", {testing::kTinyVocab, testing::kTinyHidden});
  return checkpoint;
}

// Counts the ops, and remembers which weights it was to copy.
class Watched final : public Backend {
 public:
  Watched() : inner_(make_cpu_backend(2)) {}
  std::string_view name() const override { return inner_->name(); }
  void run(const Op& op) override {
    ++n_ops[std::string(name_of(op))];
    inner_->run(op);
  }
  int64_t copy_weights(std::span<const Tensor> weights, const std::stop_token&, const Release&) override {
    for (const Tensor& weight : weights) copied.push_back(weight.data);
    return 0;
  }

  std::map<std::string, int> n_ops;
  std::vector<const std::byte*> copied;

 private:
  std::unique_ptr<Backend> inner_;
};

class Case {
 public:
  explicit Case(std::unique_ptr<Checkpoint> checkpoint)
      : checkpoint_(std::move(checkpoint)),
        model_(load_model(*checkpoint_)),
        shape_(runner_shape(*model_, {.n_ctx = 64, .max_rows = 16, .max_sequences = 2})) {}

  const Model& model() const { return *model_; }
  const RunnerShape& shape() const { return shape_; }
  int64_t n_layers() const { return model_->shape().n_layers; }

  Offload plan(const OffloadWish& wish, int64_t free_bytes = kPlenty) const {
    const std::unique_ptr<Backend> gpu = make_gpu();
    return plan_offload(*model_, *checkpoint_, shape_, wish, {*gpu, free_bytes});
  }
  // Through a split in any case, be it that one side has everything.
  std::unique_ptr<Backend> split(const OffloadWish& wish) const {
    return make_split_backend(make_cpu_backend(2), make_gpu(), plan(wish).places);
  }
  std::vector<float> logits(Backend& backend, size_t n_chunk = 0) const {
    std::vector<int32_t> tokens(11);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7 % 20);
    return Driver(*model_, backend, 1, 16).run(0, tokens, n_chunk);
  }

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Model> model_;
  RunnerShape shape_;
};

// Each with all wishes that make a difference.
void for_each_split(const auto& check) {
  for (TinyModel& tiny : all_models()) {
    SCOPED_TRACE(tiny.name);
    const Case model(std::move(tiny.checkpoint));
    for (int64_t n = 0; n <= model.n_layers(); ++n) check(model, OffloadWish{.n_gpu_layers = n});
    if (model.plan({}).n_expert_layers > 0) check(model, OffloadWish{.n_cpu_moe = model.n_layers()});
  }
}

TEST(Offload, ThePlanIsWhatIsAllocated) {
  for_each_split([](const Case& model, const OffloadWish& wish) {
    const Offload plan = model.plan(wish);
    std::unique_ptr<Backend> gpu = make_gpu();
    Memory& of_gpu = gpu->memory();
    const int64_t before = of_gpu.free_bytes();
    const auto backend = place(plan, std::move(gpu), [] { return make_cpu_backend(1); });
    if (plan.n_gpu_layers == 0) {  // and the GPU is given back
      EXPECT_EQ(plan.n_bytes(), 0);
      EXPECT_TRUE(backend->memory().is_of_program());
      return;
    }
    EXPECT_EQ(backend->held_bytes(), plan.on_device.weights_bytes);
    const SequenceMemory memory(model.shape().memory, backend->memory());
    const Runner runner(model.model(), *backend, memory, model.shape().limits);
    EXPECT_EQ(before - of_gpu.free_bytes(), plan.n_bytes()) << plan.text();
  });
}

TEST(Offload, EveryLayerLeavesWithItsPages) {
  for_each_split([](const Case& model, const OffloadWish& wish) {
    const Offload plan = model.plan(wish);
    const int64_t n_gpu_layers = wish.n_gpu_layers.value_or(model.n_layers());
    EXPECT_EQ(plan.n_gpu_layers, n_gpu_layers);
    ASSERT_EQ(std::ssize(plan.places.device_layers), model.n_layers());
    for (int64_t i = 0; i < model.n_layers(); ++i)
      EXPECT_EQ(plan.places.device_layers[static_cast<size_t>(i)], i >= model.n_layers() - n_gpu_layers);
    const int64_t kv_bytes = model.shape().memory.kv_bytes();
    if (n_gpu_layers == model.n_layers()) {
      EXPECT_EQ(plan.on_device.kv_bytes, kv_bytes);
    }
    if (n_gpu_layers == 0) {
      EXPECT_EQ(plan.n_bytes(), 0);
    }
  });
}

TEST(Offload, AllOnOneSideIsThatSide) {
  for (TinyModel& tiny : all_models()) {
    SCOPED_TRACE(tiny.name);
    const Case model(std::move(tiny.checkpoint));
    const auto gpu = make_gpu();
    gpu->hold(weights_of(model.model()));
    EXPECT_EQ(model.logits(*model.split({.n_gpu_layers = model.n_layers()})), model.logits(*gpu));
    EXPECT_EQ(model.logits(*model.split({.n_gpu_layers = 0})), model.logits(*make_cpu_backend(2)));
  }
}

TEST(Offload, ASplitIsNearTheProcessorAndTheSameInChunks) {
  for (TinyModel& tiny : all_models()) {
    SCOPED_TRACE(tiny.name);
    const Case model(std::move(tiny.checkpoint));
    const auto split = model.split({.n_gpu_layers = model.n_layers() / 2});
    const std::vector<float> whole = model.logits(*split), cpu = model.logits(*make_cpu_backend(2));
    if (model.model().shape().is_causal) {
      EXPECT_EQ(model.logits(*split, 3), whole);
    }
    ASSERT_EQ(whole.size(), cpu.size());
    for (size_t i = 0; i < cpu.size(); ++i) ASSERT_NEAR(whole[i], cpu[i], 1e-3) << i;
  }
}

// From plenty of memory to none: each plan takes no more than there is, and what leaves does so in order.
TEST(Offload, AutoTakesWhatFits) {
  const Case model(model_of_experts());
  const Offload all = model.plan({});
  EXPECT_TRUE(all.has_all);
  EXPECT_EQ(all.n_gpu_layers, model.n_layers());
  EXPECT_EQ(all.n_gpu_expert_layers, all.n_expert_layers);
  Offload last = all;
  bool has_left_tables = false, has_left_experts = false, has_left_layers = false;
  for (int64_t free_bytes = all.n_bytes(); free_bytes >= 0; free_bytes -= 512) {
    const Offload plan = model.plan({}, free_bytes);
    EXPECT_LE(plan.n_bytes(), free_bytes);
    EXPECT_LE(plan.n_bytes(), last.n_bytes());
    EXPECT_LE(plan.n_gpu_layers, last.n_gpu_layers);
    EXPECT_LE(plan.n_gpu_expert_layers, last.n_gpu_expert_layers);
    if (plan.n_gpu_layers < model.n_layers()) {
      EXPECT_EQ(plan.n_gpu_expert_layers, 0);
    }
    if (plan.n_gpu_expert_layers < plan.n_expert_layers) {
      EXPECT_FALSE(plan.has_all);
    }
    has_left_tables |= !plan.has_all && plan.n_gpu_expert_layers == plan.n_expert_layers;
    has_left_experts |= plan.n_gpu_expert_layers == 1 && plan.n_gpu_layers == model.n_layers();
    has_left_layers |= plan.n_gpu_layers == 1;
    last = plan;
  }
  EXPECT_TRUE(has_left_tables && has_left_experts && has_left_layers);
  EXPECT_EQ(last.n_gpu_layers, 0);
}

TEST(Offload, RefusesWhatDoesNotFitAndSaysWhatWould) {
  const Case model(testing::tiny_llama());
  const int64_t of_one = model.plan({.n_gpu_layers = 1}).n_bytes();
  const auto refusal = [&](const OffloadWish& wish, int64_t free_bytes) -> std::string {
    try {
      return "no refusal: " + model.plan(wish, free_bytes).text();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), wish.n_cpu_moe ? ErrorKind::usage : ErrorKind::does_not_fit);
      return error.what();
    }
  };
  EXPECT_EQ(model.plan({.n_gpu_layers = 1}, of_one).n_gpu_layers, 1);
  EXPECT_NE(refusal({.n_gpu_layers = 2}, of_one).find("1 would fit"), std::string::npos);
  EXPECT_NE(refusal({.n_gpu_layers = 1}, of_one - 1).find("0 would fit"), std::string::npos);
  EXPECT_NE(refusal({.n_cpu_moe = 1}, kPlenty).find("no experts"), std::string::npos);
  EXPECT_EQ(model.plan({.n_gpu_layers = 99}).n_gpu_layers, model.n_layers());
}

// What the processor runs of one forward.
std::map<std::string, int> ops_of_processor(const Case& model, const OffloadWish& wish) {
  auto processor = std::make_unique<Watched>();
  const Watched& watched = *processor;
  const auto split = make_split_backend(std::move(processor), make_gpu(), model.plan(wish).places);
  model.logits(*split);
  return watched.n_ops;
}

TEST(Offload, ExpertsAloneRunOnTheProcessor) {
  const Case model(model_of_experts());
  const int n_layers = static_cast<int>(model.n_layers());
  // Behind the last of them rows are gathered where they are, of the stream and of its newest branch.
  const std::map<std::string, int> all{{"moe_gated", n_layers}, {"moe_down", n_layers}, {"gather_rows", 2}};
  EXPECT_EQ(ops_of_processor(model, {.n_cpu_moe = n_layers}), all);
  const std::map<std::string, int> first{{"moe_gated", 1}, {"moe_down", 1}};
  EXPECT_EQ(ops_of_processor(model, {.n_cpu_moe = 1}), first);
}

TEST(Offload, LayersRunWhereTheirPagesLie) {
  for (TinyModel& tiny : testing::tiny_models()) {
    if (tiny.name != "llama" && tiny.name != "gemma3" && tiny.name != "deepseek2") continue;
    SCOPED_TRACE(tiny.name);
    const Case model(std::move(tiny.checkpoint));
    for (int64_t n = 0; n <= model.n_layers(); ++n) {
      std::map<std::string, int> ops = ops_of_processor(model, {.n_gpu_layers = n});
      EXPECT_EQ(ops["rope_store_kv"], model.n_layers() - n);
      EXPECT_EQ(ops["paged_attention"], model.n_layers() - n);
    }
  }
}

// Copies for the processor are made of what it reads, and of nothing that the GPU holds.
TEST(Offload, CopiesForTheProcessorAreOfItsWeights) {
  const Case model(model_of_experts());
  const Offload plan = model.plan({.n_gpu_layers = 1});
  auto processor = std::make_unique<Watched>();
  const Watched& watched = *processor;
  const auto split = make_split_backend(std::move(processor), make_gpu(), plan.places);
  split->copy_weights(multiplied_weights(model.model()), {}, {});
  std::vector<const std::byte*> expected;
  for (const Tensor& weight : multiplied_weights(model.model())) {
    const bool is_held = std::ranges::any_of(plan.places.device_weights,
                                             [&](const Tensor& held) { return held.data == weight.data; });
    if (!is_held) expected.push_back(weight.data);
  }
  EXPECT_EQ(watched.copied, expected);
  EXPECT_FALSE(expected.empty());
  EXPECT_LT(expected.size(), multiplied_weights(model.model()).size());
}

}  // namespace
}  // namespace millrace
