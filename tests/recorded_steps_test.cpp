// Steps of every body of a family as a device (emulated) records them and runs them again, beside the same
// steps op by op: the logits, and all that is left in pages and states, have the same bits. So rows that fill
// a step up write nothing there, and nothing of a step stays in its recording.
#include <gtest/gtest.h>

#include "backend/cuda/cuda.h"
#include "engine/runner.h"
#include "model/testing/tiny_models.h"
#include "model/weights_of.h"

namespace millrace {
namespace {

using namespace millrace::testing;

constexpr int64_t kPageSize = 4, kSequences = 5, kPages = 12;

// The emulation, with or without recordings; counts them.
class Device final : public Backend {
 public:
  explicit Device(bool records)
      : inner_(make_emulated_cuda_backend(EmulatedThreads::ascending)), records_(records) {}

  std::string_view name() const override { return inner_->name(); }
  void run(const Op& op) override {
    ++n_ops;
    inner_->run(op);
  }
  Memory& memory() override { return inner_->memory(); }
  void hold(std::span<const Tensor> weights) override { inner_->hold(weights); }
  bool can_record() const override { return records_; }
  std::unique_ptr<Recording> record(const std::function<void()>& ops) override {
    ++n_recorded;
    return inner_->record(ops);
  }

  int64_t n_ops = 0, n_recorded = 0;

 private:
  std::unique_ptr<Backend> inner_;
  bool records_;
};

// Sequences of a model on a device.
class Decoding {
 public:
  Decoding(const Model& model, bool records, int64_t n_sequences = kSequences)
      : device_(records), model_(model) {
    device_.hold(weights_of(model));
    const ModelShape& shape = model.shape();
    const SequenceMemory::Shape kept{
        .kv = {.layers = shape.kv_layers,
               .n_pages = n_sequences * kPages,
               .page_size = kPageSize,
               .dtype = Dtype::f16,
               .n_panes = n_sequences * kPages},
        .states = {.layers = shape.state_layers, .n_slots = shape.state_layers.empty() ? 0 : n_sequences}};
    memory_.emplace(kept.with_spare(), device_.memory());
    runner_.emplace(model, device_, *memory_,
                    BatchLimits{.max_rows = std::max<int64_t>(16, n_sequences),
                                .max_sequences = n_sequences,
                                .max_logit_rows = n_sequences,
                                .max_pages = kPages});
    sequences_.resize(static_cast<size_t>(n_sequences));
    for (size_t s = 0; s < sequences_.size(); ++s) {
      sequences_[s].slot = shape.state_layers.empty() ? -1 : static_cast<Slot>(s);
      for (size_t i = 0; i < 3 + s; ++i) append(s);
    }
  }

  // Prompts as far as they are not computed, then a row each.
  std::vector<float> step(size_t first, size_t n) {
    std::vector<PlannedRows> rows;
    for (size_t s = first; s < first + n; ++s) {
      Sequence& sequence = sequences_[s];
      append(s);
      const auto end = std::ssize(sequence.tokens);
      const Slot from = sequence.n_computed == 0 ? -1 : sequence.slot;
      rows.push_back({&sequence, std::exchange(sequence.n_computed, end), end, from, sequence.slot});
    }
    const Tensor logits = runner_->run(rows);
    EXPECT_EQ(logits.dim(0), static_cast<int64_t>(n));
    return {logits.f32(), logits.f32() + logits.n_elems()};
  }

  // All bytes of pages and states, but for those that no sequence has.
  std::vector<std::byte> left() {
    std::vector<std::byte> all;
    const auto add = [&](const Tensor& with_spare) {
      if (!with_spare) return;
      const Tensor tensor = with_spare.slice(0, with_spare.dim(0) - 1);
      std::vector<std::byte> bytes(static_cast<size_t>(tensor.n_bytes()));
      device_.memory().read(tensor.data, bytes);
      all.insert(all.end(), bytes.begin(), bytes.end());
    };
    for (int64_t i = 0; i < std::ssize(model_.shape().kv_layers); ++i) {
      const KvPages& pages = memory_->kv.layer(i);
      add(pages.k);
      add(pages.v);
      for (const Tensor& side : pages.sides) add(side);
    }
    for (int64_t i = 0; i < std::ssize(model_.shape().state_layers); ++i) {
      const LayerState& state = memory_->states.layer(i);
      for (const Tensor& tensor : {state.matrix, state.conv_q, state.conv_k, state.conv_v}) add(tensor);
    }
    return all;
  }

  const Device& device() const { return device_; }

 private:
  void append(size_t s) {
    Sequence& sequence = sequences_[s];
    const auto n = std::ssize(sequence.tokens);
    sequence.tokens.push_back(static_cast<int32_t>(1 + (7 * n + 3 * static_cast<int64_t>(s)) % 19));
    if (n % kPageSize == 0)
      sequence.pages.push_back(static_cast<Page>(static_cast<int64_t>(s) * kPages + n / kPageSize));
  }

  Device device_;
  const Model& model_;
  std::optional<SequenceMemory> memory_;
  std::optional<Runner> runner_;
  std::vector<Sequence> sequences_;
};

TEST(RecordedSteps, HaveTheBitsOfStepsOpByOp) {
  for (const auto& [name, checkpoint] : tiny_models()) {
#ifdef MILLRACE_SANITIZED  // the emulation is slow there
    if (name != "llama" && name != "deepseek4" && name != "qwen35") continue;
#endif
    SCOPED_TRACE(name);
    const auto model = load_model(*checkpoint);
    Decoding recorded(*model, true), plain(*model, false);
    for (size_t s = 0; s < kSequences; ++s) EXPECT_EQ(recorded.step(s, 1), plain.step(s, 1));
    // Shapes come and come again, page tables grow, and one prompt or another is among the rows no more.
    for (const size_t n :
         {3u, 3u, 3u, 1u, 4u, 1u, 5u, 2u, 5u, 3u, 1u, 2u, 5u, 5u, 5u, 3u, 5u, 5u, 5u, 5u, 3u}) {
      const size_t first = kSequences - n > 1 ? 1 : 0;
      EXPECT_EQ(recorded.step(first, n), plain.step(first, n)) << n;
    }
    EXPECT_EQ(recorded.left(), plain.left());
    EXPECT_GT(recorded.device().n_recorded, 3);
    EXPECT_EQ(plain.device().n_recorded, 0);
    EXPECT_LT(recorded.device().n_ops, plain.device().n_ops * 3 / 4);
  }
}

// 11 numbers of rows, each twice, as the longest sequence goes from 2 pages to 7.
TEST(RecordedSteps, AreOfFewShapes) {
  constexpr size_t n_most = 11;
  for (const auto& [name, checkpoint] : tiny_models()) {
    if (name != "llama" && name != "qwen35") continue;
    SCOPED_TRACE(name);
    const auto model = load_model(*checkpoint);
    Decoding recorded(*model, true, n_most), plain(*model, false, n_most);
    for (size_t s = 0; s < n_most; ++s) EXPECT_EQ(recorded.step(s, 1), plain.step(s, 1));
    for (size_t n = 1; n <= n_most; ++n) {
      for (int time = 0; time < 2; ++time) EXPECT_EQ(recorded.step(0, n), plain.step(0, n)) << n;
    }
    EXPECT_EQ(recorded.left(), plain.left());
    // Rows and pages: 1 2, 2 2, 4 4, 8 4, 8 8, 11 8.
    EXPECT_EQ(recorded.device().n_recorded, 6);
  }
}

}  // namespace
}  // namespace millrace
