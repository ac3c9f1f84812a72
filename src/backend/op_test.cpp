// Every op, in every case of the table: the backends against the reference, and the promise that a row's bits
// do not depend on the batch around it or on the threads that compute it.
#include "backend/cases/op_trial.h"
#include "backend/cpu/cpu.h"

namespace millrace {
namespace {

using testing::for_each_case;
using testing::Results;
using testing::Trial;

using Backends = std::vector<std::unique_ptr<Backend>>;

Backends every_instruction_set() {
  Backends backends;
  for (const std::string_view set : cpu_instruction_sets()) backends.push_back(make_cpu_backend(1, set));
  return backends;
}

TEST(ReferenceOps, WriteEveryElementAndReadNothingHidden) {
  const auto reference = make_reference_backend();
  for_each_case([&](Trial& trial) {
    trial.run(*reference);
    trial.expect_no_nan();
  });
}

TEST(ReferenceOps, GiveTheSameBitsInAnyBatch) {
  const auto reference = make_reference_backend();
  for_each_case([&](Trial& trial) { trial.expect_same_bits_in_any_batch(*reference); });
}

TEST(CpuOps, AgreeWithTheReferenceOnEveryInstructionSet) {
  const auto reference = make_reference_backend();
  const Backends cpus = every_instruction_set();
  for_each_case([&](Trial& trial) {
    Results expected = trial.run(*reference);
    for (size_t i = 0; i < cpus.size(); ++i) {
      SCOPED_TRACE(cpu_instruction_sets()[i]);
      Results actual = trial.run(*cpus[i]);
      trial.expect_near(actual, expected);
    }
  });
}

TEST(CpuOps, GiveTheSameBitsInAnyBatchOnEveryInstructionSet) {
  const Backends cpus = every_instruction_set();
  for_each_case([&](Trial& trial) {
    for (size_t i = 0; i < cpus.size(); ++i) {
      SCOPED_TRACE(cpu_instruction_sets()[i]);
      trial.expect_same_bits_in_any_batch(*cpus[i]);
    }
  });
}

TEST(CpuOps, GiveTheSameBitsOfCopiedWeights) {
  for_each_case([&](Trial& trial) {
    const std::vector<Tensor> weights = multiplied_weights(trial.op());
    if (weights.empty()) return;
    for (const std::string_view set : cpu_instruction_sets()) {
      SCOPED_TRACE(set);
      const auto cpu = make_cpu_backend(1, set);
      const Results expected = trial.run(*cpu);
      int64_t n_released = 0;
      cpu->copy_weights(weights, {}, [&](std::span<const std::byte> part) {
        n_released += static_cast<int64_t>(part.size());
      });
      EXPECT_GE(n_released, weights[0].n_bytes());
      trial.expect_same_bits(trial.run(*cpu), expected, "when its weights are copied");
    }
  });
}

TEST(CpuOps, GiveTheSameBitsOnAnyNumberOfThreads) {
  const auto one = make_cpu_backend(1);
  const auto two = make_cpu_backend(2);
  const auto three = make_cpu_backend(3);
  for_each_case([&](Trial& trial) {
    const Results expected = trial.run(*one);
    trial.expect_same_bits(trial.run(*two), expected, "on two threads");
    trial.expect_same_bits(trial.run(*three), expected, "on three threads");
  });
}

}  // namespace
}  // namespace millrace
