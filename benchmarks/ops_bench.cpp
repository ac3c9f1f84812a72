// Times every op on shapes of real models and sets the speed beside what this machine can do at most.
//   ops_bench [--backend cpu|reference|cuda|cuda-emulation] [--threads N] [--filter TEXT] [--seconds S]
//             [--copied]
// "of limit" is the time that the memory or the arithmetic of the op would take at the measured limits,
// whichever is longer, as a share of the time it took; arithmetic on quantised weights is held against 8-bit
// integers, on a GPU all of it against products in bfloat16. Operands are taken in turn from copies that
// together exceed the caches, as the layers of a model do. A GPU is given all of them before it is waited
// for. The emulation of one has no speed: it shows that the bench runs.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <deque>

#include "backend/backend.h"
#include "backend/cases/op_cases.h"
#include "backend/cuda/cuda.h"
#include "backend/op_cost.h"
#include "backend/op_operands.h"
#include "backend/tools/machine_limits.h"
#include "backend/tools/staging_backend.h"

namespace millrace {
namespace {

constexpr int64_t kColdBytes = int64_t{1} << 29;

struct Options {
  std::string backend = "cpu";
  int n_threads = n_physical_cores();
  std::string filter;
  double seconds = 0.3;  // a case
  bool copies_weights = false;
};

std::unique_ptr<Backend> make_backend(const Options& options) {
  if (options.backend == "reference") return make_reference_backend();
  if (options.backend == "cpu") return make_cpu_backend(options.n_threads);
  if (options.backend == "cuda") return make_cuda_backend();
  if (options.backend == "cuda-emulation") return make_emulated_cuda_backend(EmulatedThreads::ascending);
  fail(ErrorKind::usage, "there is no backend named {}", options.backend);
}

struct Limits {
  double read_bytes_per_second;
  double flops_per_second, quantised_flops_per_second;
};

Limits measure_limits(const Options& options) {
  if (const auto device = make_backend(options)->measure_limits()) {
    fmt::print("limits of the device: reads {:.1f} GB/s, bfloat16 {:.0f} GFLOP/s\n",
               device->read_bytes_per_second / 1e9, device->bf16_flops_per_second / 1e9);
    return {device->read_bytes_per_second, device->bf16_flops_per_second, device->bf16_flops_per_second};
  }
  ThreadPool pool(options.n_threads);
  const MachineLimits limits = measure_limits(pool);
  fmt::print("limits of {} threads: reads {:.1f} GB/s, float32 {:.0f} GFLOP/s, int8 {:.0f} GOP/s ({})\n",
             options.n_threads, limits.read_bytes_per_second / 1e9, limits.f32_flops_per_second / 1e9,
             limits.int8_flops_per_second / 1e9, limits.vectors);
  return {limits.read_bytes_per_second, limits.f32_flops_per_second, limits.int8_flops_per_second};
}

std::vector<CaseOp> copies_of(const OpCase& line, const Options& options) {
  std::vector<CaseOp> copies;
  int64_t n_bytes = 0;
  do {
    copies.push_back(line.make());
    n_bytes += cost_of(copies.back().op, Elements::readable).read_bytes;
  } while (options.backend != "cuda-emulation" && n_bytes < kColdBytes && copies.size() < 64);
  return copies;
}

// The median over runs.
double seconds_of(Backend& backend, const std::vector<CaseOp>& copies, double seconds) {
  std::deque<StagedOp> staged;
  for (const CaseOp& copy : copies) staged.emplace_back(copy.op, backend);
  const size_t n_together = backend.memory().is_of_program() ? 1 : staged.size();
  std::vector<double> times;
  double total = 0;
  for (size_t i = 0; total < seconds || times.size() < 3; i += n_together) {
    const auto begin = std::chrono::steady_clock::now();
    for (size_t j = i; j < i + n_together; ++j) backend.run(staged[j % staged.size()].op());
    staged[0].wait();
    const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    times.push_back(all / static_cast<double>(n_together));
    total += all;
  }
  std::ranges::nth_element(times, times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2));
  return times[times.size() / 2];
}

void copy_weights(Backend& backend, const std::vector<CaseOp>& cases) {
  std::vector<Tensor> weights;
  for (const CaseOp& each : cases) {
    for (const Tensor& weight : multiplied_weights(each.op)) weights.push_back(weight);
  }
  backend.copy_weights(weights, {}, [](std::span<const std::byte>) {});
}

bool has_quantised_weight(Op op) {
  const std::vector<Operand> operands = operands_of(op);
  return std::ranges::any_of(
      operands, [](const Operand& operand) { return format_of(operand.tensor->dtype).block_elems > 1; });
}

void print_line(const OpCase& line, const Op& op, double seconds, const Limits& limits) {
  const OpCost cost = cost_of(op, Elements::readable);
  const double n_bytes = static_cast<double>(cost.read_bytes + cost.written_bytes);
  const double flops = static_cast<double>(cost.flops);
  const double peak = has_quantised_weight(op) ? limits.quantised_flops_per_second : limits.flops_per_second;
  const double at_best = std::max(n_bytes / limits.read_bytes_per_second, flops / peak);
  fmt::print("{:<72}{:>11.1f}{:>8.2f}{:>9.1f}{:>9.0f}%\n", line.name, seconds * 1e6, n_bytes / seconds / 1e9,
             flops / seconds / 1e9, 100 * at_best / seconds);
}

void run(const Options& options) {
  const Limits limits = measure_limits(options);
  fmt::print("{:<72}{:>11}{:>8}{:>9}{:>10}\n", options.backend, "us", "GB/s", "GFLOP/s", "of limit");
  for (const OpCase& line : op_bench_cases()) {
    if (line.name.find(options.filter) == std::string::npos) continue;
    const std::vector<CaseOp> copies = copies_of(line, options);
    const std::unique_ptr<Backend> backend = make_backend(options);
    if (options.copies_weights) copy_weights(*backend, copies);
    print_line(line, copies[0].op, seconds_of(*backend, copies, options.seconds), limits);
  }
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  millrace::Options options;
  CLI::App app("Times every op beside the limits of this machine");
  app.add_option("--backend", options.backend, "cpu, reference, cuda or cuda-emulation");
  app.add_option("--threads", options.n_threads)->check(CLI::PositiveNumber);
  app.add_option("--filter", options.filter, "only cases whose name contains this");
  app.add_option("--seconds", options.seconds, "time for a case")->check(CLI::NonNegativeNumber);
  app.add_flag("--copied", options.copies_weights,
               "weights are read from copies as `run --weights copied` does");
  CLI11_PARSE(app, argc, argv);
  try {
    millrace::run(options);
  } catch (const millrace::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.kind());
  }
}
