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

// The kernels that measure run, and count what they have done.
TEST(EmulatedCuda, MeasuresItsLimits) {
  const auto limits = make_emulated_cuda_backend(EmulatedThreads::descending)->measure_limits();
  ASSERT_TRUE(limits);
  EXPECT_TRUE(std::isfinite(limits->read_bytes_per_second) && limits->read_bytes_per_second > 0);
  EXPECT_TRUE(std::isfinite(limits->bf16_flops_per_second) && limits->bf16_flops_per_second > 0);
}

}  // namespace
}  // namespace millrace
