#include "cli/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>

#include "base/thread_pool.h"
#include "tensor/buffer.h"

namespace millrace {
namespace {

constexpr size_t kBytes = size_t{512} << 20;
constexpr size_t kPieceBytes = size_t{1} << 20;

// Sums 8 streams of 64-bit words, so that the loads and not the adds are the limit. Auto-vectorised.
uint64_t read_all(const std::byte* data, size_t n_bytes) {
  uint64_t sums[8] = {};
  for (size_t at = 0; at < n_bytes; at += sizeof sums) {
    uint64_t words[8];
    std::memcpy(words, data + at, sizeof words);
    for (int i = 0; i < 8; ++i) sums[i] += words[i];
  }
  uint64_t sum = 0;
  for (const uint64_t each : sums) sum += each;
  return sum;
}

}  // namespace

double measure_read_bandwidth(int n_threads) {
  const Buffer buffer(kBytes);
  ThreadPool pool(n_threads);
  const int n_pieces = static_cast<int>(kBytes / kPieceBytes);
  pool.run(n_pieces, [&](int i, int) {
    std::memset(buffer.data() + static_cast<size_t>(i) * kPieceBytes, i, kPieceBytes);
  });
  double best_s = 1e9;
  for (int pass = 0; pass < 5; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    pool.run(n_pieces, [&](int i, int) {
      [[maybe_unused]] volatile uint64_t sum =
          read_all(buffer.data() + static_cast<size_t>(i) * kPieceBytes, kPieceBytes);
    });
    best_s =
        std::min(best_s, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return static_cast<double>(kBytes) / best_s;
}

}  // namespace millrace
