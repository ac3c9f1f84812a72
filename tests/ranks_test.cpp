// Models of every family on several ranks: near one backend, the same bits in chunks and in company, half of
// the memory each, and what is divided is what should be.
#include "backend/ranks/ranks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

#include "backend/cuda/cuda.h"
#include "engine/engine_options.h"
#include "engine/memory.h"
#include "engine/tensor_parallel.h"
#include "model/testing/driver.h"
#include "model/testing/tiny_embedding_models.h"
#include "model/testing/tiny_models.h"
#include "model/weights_of.h"

namespace millrace {
namespace {

using testing::Driver;
using testing::TinyModel;

std::vector<TinyModel> all_models() {
  std::vector<TinyModel> models = testing::tiny_models();
  for (TinyModel& each : testing::tiny_embedding_models()) models.push_back(std::move(each));
  return models;
}

using MakeBackend = std::function<std::unique_ptr<Backend>()>;

std::unique_ptr<Backend> one_thread() { return make_cpu_backend(1); }
std::unique_ptr<Backend> emulated_gpu() { return make_emulated_cuda_backend(EmulatedThreads::ascending); }

ranks::Plan plan_of(const Model& model, int n_ranks) {
  return ranks::plan_ranks(recorded_for_ranks(model), n_ranks);
}

RankBackends backends_of(int n_ranks, const MakeBackend& make) {
  RankBackends ranks;
  std::vector<Memory*> memories;
  for (int rank = 0; rank < n_ranks; ++rank)
    memories.push_back(&ranks.backends.emplace_back(make())->memory());
  ranks.collective = std::make_unique<SharedCollective>(memories);
  return ranks;
}

std::unique_ptr<Backend> ranks_of(const Model& model, int n_ranks, const MakeBackend& make) {
  auto [backends, collective] = backends_of(n_ranks, make);
  auto ranks = make_ranks_backend(std::move(backends), plan_of(model, n_ranks), std::move(collective));
  ranks->hold({});
  return ranks;
}

std::vector<int32_t> some_tokens(size_t n) {
  std::vector<int32_t> tokens(n);
  for (size_t i = 0; i < n; ++i) tokens[i] = static_cast<int32_t>(i * 7 % 20);
  return tokens;
}

std::vector<float> logits(const Model& model, Backend& backend, size_t n_chunk = 0) {
  return Driver(model, backend, 1, 32).run(0, some_tokens(19), n_chunk);
}

void expect_near(const std::vector<float>& found, const std::vector<float>& expected, float tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], tolerance) << i;
}

// Two ranks have a key-value head each, four share them, three divide feed-forwards and the head alone.
TEST(Ranks, AreNearOneBackendAndTheSameInChunks) {
  for (const auto& [name, checkpoint] : all_models()) {
    const auto model = load_model(*checkpoint);
    const std::vector<float> expected = logits(*model, *make_reference_backend());
    for (const int n_ranks : {2, 3, 4}) {
      SCOPED_TRACE(fmt::format("{} on {} ranks", name, n_ranks));
      const auto ranks = ranks_of(*model, n_ranks, make_reference_backend);
      const std::vector<float> found = logits(*model, *ranks);
      expect_near(found, expected, 1e-4f);
      if (n_ranks == 2 && model->shape().is_causal) {
        EXPECT_EQ(logits(*model, *ranks, 5), found);
      }
    }
  }
}

TEST(Ranks, CompanyChangesNothing) {
  for (const auto& [name, checkpoint] : all_models()) {
    SCOPED_TRACE(name);
    const auto model = load_model(*checkpoint);
    const auto ranks = ranks_of(*model, 2, one_thread);
    const std::vector<float> alone = logits(*model, *ranks);
    Driver driver(*model, *ranks, 2, 32, 3);
    const std::vector<int32_t> other = some_tokens(11), tokens = some_tokens(19);
    const std::vector<testing::Rows> rows{{0, other}, {1, tokens}};
    const std::vector<float> both = driver.step(rows);
    ASSERT_GT(both.size(), alone.size());
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), both.end() - std::ssize(alone)));
  }
}

// Names of tensors that every rank has whole: what is divided is what should be.
std::vector<std::string> whole_tensors(const testing::MemoryCheckpoint& checkpoint, const ranks::Plan& plan) {
  std::vector<std::string> names;
  for (const NamedTensor& named : checkpoint.tensors()) {
    if (named.tensor.n_dims > 1 && plan.find(named.tensor) == nullptr &&
        plan.whole.contains(named.tensor.data))
      names.push_back(named.name);
  }
  return names;
}

TEST(Ranks, DivideWhatCanBe) {
  const auto expect_whole = [](std::unique_ptr<testing::MemoryCheckpoint> checkpoint,
                               std::vector<std::string_view> parts) {
    const auto model = load_model(*checkpoint);
    for (const std::string& name : whole_tensors(*checkpoint, plan_of(*model, 2))) {
      EXPECT_TRUE(std::ranges::any_of(parts, [&](std::string_view part) {
        return name.find(part) != std::string::npos;
      })) << name;
    }
  };
  expect_whole(testing::tiny_llama(), {});
  expect_whole(testing::tiny_qwen3moe(), {"ffn_gate_inp"});
  expect_whole(testing::tiny_phi3(), {});
  expect_whole(testing::tiny_gpt_oss(), {"ffn_gate_inp", "ffn_down_exps.bias"});
  expect_whole(testing::tiny_deepseek2(), {"attn_q_a", "attn_kv_a_mqa", "ffn_gate_inp"});
  expect_whole(testing::tiny_qwen35("qwen3next"), {"ffn_gate_inp"});
  expect_whole(testing::tiny_qwen35("qwen35"), {"ffn_gate_inp"});
  expect_whole(testing::tiny_kimi_linear(), {"ssm_f_a", "ssm_g_a", "attn_kv_a_mqa", "ffn_gate_inp"});
  expect_whole(testing::tiny_olmo2(), {"attn_q", "attn_k", "attn_v", "attn_output"});
}

// Heads of which none may be cut, and blocks.
TEST(Ranks, LeaveWholeWhatCannotBeDivided) {
  const auto checkpoint = testing::tiny_llama();
  const auto model = load_model(*checkpoint);
  const ranks::Plan three = plan_of(*model, 3);
  const std::vector<std::string> whole = whole_tensors(*checkpoint, three);
  EXPECT_NE(std::ranges::find(whole, "blk.0.attn_q.weight"), whole.end());
  EXPECT_EQ(std::ranges::find(whole, "blk.0.ffn_down.weight"), whole.end());
  EXPECT_TRUE(three.kept.empty());
  EXPECT_EQ(three.n_parts, testing::kTinyKvHeads);
  EXPECT_GT(three.n_undivided_bytes, 0);
  EXPECT_EQ(plan_of(*model, 2).n_undivided_bytes, 0);
}

// On GPUs, which are emulated: what is planned is what is taken, and no more by the widest step.
TEST(Ranks, ThePlanIsWhatIsAllocated) {
  for (const auto& [name, checkpoint] : all_models()) {
    SCOPED_TRACE(name);
    const auto model = load_model(*checkpoint);
    RankBackends gpus = backends_of(3, emulated_gpu);
    std::vector<Memory*> memories;
    std::vector<int64_t> free;
    for (const auto& gpu : gpus.backends) free.push_back(memories.emplace_back(&gpu->memory())->free_bytes());
    const RunnerShape shape = runner_shape(*model, {.n_ctx = 64, .max_rows = 16, .max_sequences = 2});
    const TensorParallel placed = place_on_ranks(*model, *checkpoint, shape, std::move(gpus));
    const SequenceMemory memory(shape.memory, placed.backend->memory());
    Runner runner(*model, *placed.backend, memory, shape.limits);
    const auto expect_planned = [&] {
      for (size_t rank = 0; rank < memories.size(); ++rank)
        EXPECT_EQ(free[rank] - memories[rank]->free_bytes(), placed.planned[rank].n_bytes()) << rank;
    };
    expect_planned();
    Sequence sequence;
    sequence.tokens = some_tokens(16);
    sequence.pages = {0};
    runner.run(std::vector<PlannedRows>{{&sequence, 0, 16, -1, 0}});
    expect_planned();
  }
}

TEST(Ranks, HaveAboutHalfEach) {
  const auto checkpoint = testing::tiny_llama();
  const auto model = load_model(*checkpoint);
  const auto one = emulated_gpu();
  one->hold(weights_of(*model));
  const RunnerShape shape = runner_shape(*model, {.n_ctx = 64, .max_rows = 16, .max_sequences = 2});
  const TensorParallel two = place_on_ranks(*model, *checkpoint, shape, backends_of(2, emulated_gpu));
  for (const MemoryPlan::Part& part : two.planned) {
    EXPECT_LT(part.weights_bytes, one->held_bytes() * 6 / 10);
    EXPECT_EQ(part.kv_bytes, shape.memory.kv_bytes() / 2);
  }
  EXPECT_EQ(two.backend->held_bytes(), two.planned[0].weights_bytes + two.planned[1].weights_bytes);
}

// On shares of the processor: the checkpoint, whose parts are copied once in sum where they are not in one
// piece, and N times a step. Of a checkpoint in memory nothing can be given back.
TEST(Ranks, TheProcessorHasTheCopiesOfAll) {
  const auto checkpoint = testing::tiny_qwen3moe();
  const auto model = load_model(*checkpoint);
  const RunnerShape shape = runner_shape(*model, {.n_ctx = 64, .max_rows = 16, .max_sequences = 2});
  const TensorParallel two = place_on_ranks(*model, *checkpoint, shape, backends_of(2, one_thread));
  const int64_t n_copied = two.planned[0].weights_bytes - checkpoint->n_bytes();
  EXPECT_GT(n_copied, checkpoint->n_bytes() / 4);
  EXPECT_LT(n_copied, checkpoint->n_bytes());
  EXPECT_EQ(two.backend->held_bytes(), 0);
  EXPECT_GT(two.planned[0].arena_bytes, 2 * Runner::step_bytes(*model, shape));
}

// Before anything is allocated.
TEST(Ranks, WhatDoesNotFitIsRefused) {
  const auto checkpoint = testing::tiny_llama();
  const auto model = load_model(*checkpoint);
  const RunnerShape shape = runner_shape(*model, {.n_ctx = 64, .max_rows = 16, .max_sequences = 2});
  const auto refusal = [&](int64_t n_left) -> std::string {
    RankBackends gpus = backends_of(2, emulated_gpu);
    Memory& second = gpus.backends[1]->memory();
    second.allocate(static_cast<size_t>(second.free_bytes() - kSpareBytes - n_left));
    try {
      place_on_ranks(*model, *checkpoint, shape, std::move(gpus));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::does_not_fit);
      return error.what();
    }
    return "";
  };
  const MemoryPlan::Part needed =
      place_on_ranks(*model, *checkpoint, shape, backends_of(2, emulated_gpu)).planned[1];
  EXPECT_EQ(refusal(needed.n_bytes()), "");
  EXPECT_NE(refusal(needed.n_bytes() - 1).find("on the GPU: 32 positions would fit"), std::string::npos);
  EXPECT_NE(refusal(needed.weights_bytes - 1).find("more ranks have less"), std::string::npos);
}

#ifndef MILLRACE_SANITIZED  // the emulation is slow there
TEST(Ranks, RunOnGpus) {
  for (const auto& [name, checkpoint] : all_models()) {
    if (name != "llama" && name != "qwen3moe" && name != "qwen35" && name != "deepseek2") continue;
    SCOPED_TRACE(name);
    const auto model = load_model(*checkpoint);
    const auto one = emulated_gpu();
    one->hold(weights_of(*model));
    const auto ranks = ranks_of(*model, 2, emulated_gpu);
    const std::vector<float> found = logits(*model, *ranks);
    expect_near(found, logits(*model, *one), 1e-3f);
    EXPECT_EQ(logits(*model, *ranks, 5), found);
  }
}
#endif

// Pages and slots, which lie on all ranks, can be copied, read and written as of one.
TEST(Ranks, PagesAreMovedWhole) {
  for (const std::string_view name : {"llama", "qwen35", "deepseek2"}) {
    SCOPED_TRACE(name);
    for (auto& [each, checkpoint] : testing::tiny_models()) {
      if (each != name) continue;
      const auto model = load_model(*checkpoint);
      const auto ranks = ranks_of(*model, 2, one_thread);
      const RunnerShape shape = runner_shape(*model, {.n_ctx = 64, .page_size = 4, .max_rows = 16});
      SequenceMemory memory(shape.memory, ranks->memory());
      std::mt19937 random(1);
      const auto fill = [&](const std::vector<std::span<std::byte>>& parts) {
        std::vector<std::vector<std::byte>> all;
        for (const std::span<std::byte> part : parts) {
          std::vector<std::byte>& bytes = all.emplace_back(part.size());
          for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
          ranks->memory().write(part.data(), bytes);
        }
        return all;
      };
      const auto expect_there = [&](const std::vector<std::span<std::byte>>& parts,
                                    const std::vector<std::vector<std::byte>>& expected) {
        ASSERT_EQ(parts.size(), expected.size());
        for (size_t i = 0; i < parts.size(); ++i) {
          std::vector<std::byte> found(parts[i].size());
          ranks->memory().read(parts[i].data(), found);
          EXPECT_EQ(found, expected[i]) << i;
        }
      };
      const auto second = fill(memory.kv.parts_of_page(2)), first = fill(memory.kv.parts_of_page(1));
      expect_there(memory.kv.parts_of_page(2), second);
      memory.kv.copy_page(1, 2);
      expect_there(memory.kv.parts_of_page(2), first);
      if (shape.memory.states.n_slots == 0) continue;
      const auto slot = fill(memory.states.parts_of(1));
      fill(memory.states.parts_of(0));
      expect_there(memory.states.parts_of(1), slot);
    }
  }
}

}  // namespace
}  // namespace millrace
