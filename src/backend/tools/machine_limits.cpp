#include "backend/tools/machine_limits.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <vector>

#include "backend/tools/peak.h"
#include "base/error.h"
#include "tensor/buffer.h"

namespace millrace {
namespace peak {
namespace {

constexpr int kSums = 64;

double run_plain_f32(int n_rounds) {
  float sums[kSums] = {};
  volatile float a = 1e-9f;
  for (int i = 0; i < n_rounds; ++i) {
    const float factor = a;
    for (float& sum : sums) sum += factor * factor;
  }
  return std::accumulate(sums, sums + kSums, 0.0);
}

double run_plain_int8(int n_rounds) {
  int32_t sums[kSums] = {};
  volatile int8_t a = 1;
  for (int i = 0; i < n_rounds; ++i) {
    const int8_t factor = a;
    for (int32_t& sum : sums) sum += factor * factor;
  }
  return std::accumulate(sums, sums + kSums, 0.0);
}

}  // namespace

Loops plain() { return {.f32 = {run_plain_f32, kSums * 2.0}, .int8 = {run_plain_int8, kSums * 2.0}}; }

}  // namespace peak

namespace {

constexpr int kRepeats = 5;  // the best one counts

template <class Body>
double best_seconds(const Body& body) {
  double best = 1e9;
  for (int i = 0; i < kRepeats; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

// One thread per task reads its own part from end to end.
double measure_read(ThreadPool& pool) {
  constexpr size_t kBytes = size_t{1} << 30;
  const Buffer buffer(kBytes);
  const int n_tasks = pool.n_threads();
  const size_t n_words = kBytes / sizeof(uint64_t) / static_cast<size_t>(n_tasks);
  auto* words = reinterpret_cast<uint64_t*>(buffer.data());
  std::vector<uint64_t> sums(static_cast<size_t>(n_tasks));
  // Untouched pages would all be the same page of zeros.
  pool.run(n_tasks, [&](int i, int) { std::fill_n(words + static_cast<size_t>(i) * n_words, n_words, 1); });
  const double seconds = best_seconds([&] {
    pool.run(n_tasks, [&](int i, int) {
      const uint64_t* part = words + static_cast<size_t>(i) * n_words;
      sums[static_cast<size_t>(i)] = std::accumulate(part, part + n_words, uint64_t{0});
    });
  });
  check(std::ranges::all_of(sums, [&](uint64_t sum) { return sum == n_words; }), "memory was not read");
  return static_cast<double>(n_words * sizeof(uint64_t)) * n_tasks / seconds;
}

double measure_peak(ThreadPool& pool, const peak::Loop& loop) {
  const int n_rounds = static_cast<int>(4e8 / loop.flops_per_round);
  std::vector<double> results(static_cast<size_t>(pool.n_threads()));
  const double seconds = best_seconds([&] {
    pool.run(pool.n_threads(), [&](int i, int) { results[static_cast<size_t>(i)] = loop.run(n_rounds); });
  });
  check(std::ranges::all_of(results, [](double result) { return result > 0; }), "nothing was computed");
  return loop.flops_per_round * n_rounds * pool.n_threads() / seconds;
}

struct NamedLoops {
  std::string_view name;
  peak::Loops loops;
};

NamedLoops loops_of_this_machine() {
#if defined(__x86_64__)
  const bool has_avx512 = __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
                          __builtin_cpu_supports("avx512vbmi");  // what the file is compiled for
  if (has_avx512) return {"AVX-512 VNNI", peak::avx512()};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {"AVX2", peak::avx2()};
#endif
  return {"plain C++", peak::plain()};
}

}  // namespace

MachineLimits measure_limits(ThreadPool& pool) {
  const NamedLoops loops = loops_of_this_machine();
  return {.read_bytes_per_second = measure_read(pool),
          .f32_flops_per_second = measure_peak(pool, loops.loops.f32),
          .int8_flops_per_second = measure_peak(pool, loops.loops.int8),
          .vectors = loops.name};
}

}  // namespace millrace
