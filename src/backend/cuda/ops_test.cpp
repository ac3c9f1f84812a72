// Every op of the table on the emulation, and on a GPU where there is one: against the reference, on memory
// of its own, with threads in either order, in any batch. A backend for each case: it keeps the weights that
// it has seen.
#include <cmath>

#include "backend/cases/op_trial.h"
#include "backend/cuda/cuda.h"
#include "backend/tools/staging_backend.h"

namespace millrace {
namespace {

using testing::for_each_case;
using testing::Results;
using testing::Trial;

// Eight bits of a number are kept: rounding costs 1e-3.
constexpr double kBfloat16 = 3e-3;

TEST(EmulatedCudaOps, AgreeWithTheReferenceInAnyBatch) {
  const auto reference = make_reference_backend();
  for_each_case([&](Trial& trial) {
    const auto ascending = make_emulated_cuda_backend(EmulatedThreads::ascending);
    const auto descending = make_emulated_cuda_backend(EmulatedThreads::descending);
    StagingBackend cuda(*ascending), other_order(*descending);
    Results expected = trial.run(*reference), actual = trial.run(cuda);
    trial.expect_near(actual, expected, kBfloat16);
    trial.expect_same_bits(trial.run_parts(other_order, testing::pieces(trial.op(), 1)), actual,
                           "one by one");
    trial.expect_same_bits(trial.run_parts(cuda, testing::other_batches(trial.op())), actual,
                           "in other batches");
  });
}

TEST(CudaOps, AgreeWithTheReferenceInAnyBatch) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU, or a build without CUDA";
  const auto reference = make_reference_backend();
  for_each_case([&](Trial& trial) {
    const auto gpu = make_cuda_backend();
    StagingBackend cuda(*gpu);
    Results expected = trial.run(*reference), actual = trial.run(cuda);
    trial.expect_near(actual, expected, kBfloat16);
    trial.expect_same_bits_in_any_batch(cuda);
  });
}

// Of models and steps as they are, and larger ones: nothing is computed, but what would be launched is looked
// at, and what it would take is counted.
TEST(EmulatedCuda, LargeOpsFitIntoAGpu) {
  const auto tensor = [](Dtype dtype, std::initializer_list<int64_t> dims) {
    return Tensor(nullptr, dtype, dims);
  };
  const auto floats = [&](std::initializer_list<int64_t> dims) { return tensor(Dtype::f32, dims); };
  const auto ints = [&](std::initializer_list<int64_t> dims) { return tensor(Dtype::i32, dims); };
  constexpr int64_t n_rows = 8192, n_vocab = 262144, n_logits = 4096, page_size = 32;
  constexpr int64_t n_pages = (int64_t{1} << 20) / page_size;  // of a sequence
  const auto batch_of = [&](int64_t n_seqs) {
    return Batch{.tokens = ints({n_rows}),
                 .positions = ints({n_rows}),
                 .seq_of_row = ints({n_rows}),
                 .row_begin = ints({n_seqs + 1}),
                 .page_tables = ints({n_seqs, n_pages}),
                 .rope_tables = ints({n_seqs}),
                 .state_from = ints({n_seqs}),
                 .state_to = ints({n_seqs}),
                 .logit_rows = ints({n_seqs})};
  };
  std::vector<Op> ops;
  for (const Dtype type : {Dtype::f32, Dtype::bf16, Dtype::q4_k}) {
    for (const int64_t n : {int64_t{1}, n_logits})
      ops.push_back(Linear{
          .x = floats({n, 16384}),
          .products = {{.weight = tensor(type, {n_vocab, 16384}), .bias = {}, .out = floats({n, n_vocab})}}});
    ops.push_back(LinearGated{.x = floats({n_rows, 16384}),
                              .gate = tensor(type, {65536, 16384}),
                              .up = tensor(type, {65536, 16384}),
                              .gate_bias = {},
                              .up_bias = {},
                              .out = floats({n_rows, 65536})});
    ops.push_back(MoeGated{.x = floats({n_rows, 7168}),
                           .experts = ints({n_rows, 8}),
                           .weights = {},
                           .gate = tensor(type, {512, 2048, 7168}),
                           .up = tensor(type, {512, 2048, 7168}),
                           .gate_bias = {},
                           .up_bias = {},
                           .out = floats({n_rows, 8, 2048})});
  }
  // Heads as of Llama, Gemma and of latents.
  const std::pair<int64_t, int64_t> heads[] = {{8, 128}, {16, 256}, {1, 576}};
  for (const auto& [n_kv_heads, head_dim] : heads) {
    for (const Dtype type : {Dtype::f32, Dtype::f16, Dtype::q8_0}) {
      for (const int64_t n_seqs : {int64_t{1}, n_logits}) {
        const Tensor pages = tensor(type, {n_pages, n_kv_heads, page_size, head_dim});
        const int64_t v_head_dim = n_kv_heads == 1 ? 512 : head_dim;
        ops.push_back(PagedAttention{.batch = batch_of(n_seqs),
                                     .q = floats({n_rows, 128, head_dim}),
                                     .k_pages = pages,
                                     .v_pages = n_kv_heads == 1 ? Tensor() : pages,
                                     .sinks = {},
                                     .selected = {},
                                     .out = floats({n_rows, 128, v_head_dim}),
                                     .entry_pages = {}});
      }
    }
  }
  ops.push_back(SelectPositions{.batch = batch_of(n_logits),
                                .q = floats({n_rows, 64, 128}),
                                .weights = floats({n_rows, 64}),
                                .k_pages = tensor(Dtype::f16, {n_pages, 1, page_size, 128}),
                                .selected = ints({n_rows, 2048})});
  ops.push_back(GatedDeltaRule{.batch = batch_of(n_logits),
                               .q = floats({n_rows, 16, 128}),
                               .k = floats({n_rows, 16, 128}),
                               .v = floats({n_rows, 32, 128}),
                               .beta = floats({n_rows, 32}),
                               .decay = floats({n_rows, 32, 1}),
                               .decay_bias = floats({32, 1}),
                               .rate = floats({32}),
                               .state = floats({n_logits, 32, 128, 128}),
                               .out = floats({n_rows, 32, 128})});
  const Tensor logits = floats({n_logits, n_vocab}), top_tokens = ints({n_logits, TopLogits::kMost}),
               top = floats({n_logits, TopLogits::kMost});
  ops.push_back(TopLogits{.logits = logits, .tokens = top_tokens, .top = top});
  ops.push_back(DrawTokens{.logits = logits,
                           .top_tokens = top_tokens,
                           .top = top,
                           .temperatures = floats({n_logits}),
                           .truncations = floats({n_logits, 3}),
                           .uniforms = ints({n_logits, 2}),
                           .tokens = ints({n_logits}),
                           .sums = ints({n_logits, 2})});
  const auto cuda = make_emulated_cuda_backend(EmulatedThreads::ascending);
  for (const Op& op : ops) {
    SCOPED_TRACE(name_of(op));
    EXPECT_LT(cuda->scratch_bytes({&op, 1}), int64_t{3} << 30);
  }
}

// The kernels that measure run, and count what they have done.
TEST(EmulatedCuda, MeasuresItsLimits) {
  const auto limits = make_emulated_cuda_backend(EmulatedThreads::descending)->measure_limits();
  ASSERT_TRUE(limits);
  EXPECT_TRUE(std::isfinite(limits->read_bytes_per_second) && limits->read_bytes_per_second > 0);
  EXPECT_TRUE(std::isfinite(limits->bf16_flops_per_second) && limits->bf16_flops_per_second > 0);
}

}  // namespace
}  // namespace millrace
