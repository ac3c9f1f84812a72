#include "backend/ranks/first_gather.h"

#include <numeric>
#include <string>
#include <thread>

#include "base/error.h"
#include "tensor/buffer.h"

namespace millrace::ranks {
namespace {

constexpr size_t kBytes = sizeof(int32_t);  // each gives its number

void gather(Collective& collective, int rank, Memory& memory, std::span<int32_t> found) {
  const Buffer from(kBytes, memory), to(found.size_bytes(), memory);
  memory.write(from.data(), std::as_bytes(std::span(&rank, 1)));
  collective.all_gather(rank, {from.data(), kBytes}, to.data());
  memory.read(to.data(), std::as_writable_bytes(found));
}

bool is_done_within(const Workers& workers, std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!workers.is_done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace

void gather_first(Collective& collective, const std::vector<Memory*>& memories, Workers& workers,
                  std::chrono::milliseconds limit) {
  const size_t n_ranks = memories.size();
  std::vector<int32_t> expected(n_ranks);
  std::iota(expected.begin(), expected.end(), 0);
  std::vector<std::vector<int32_t>> found(n_ranks, std::vector<int32_t>(n_ranks));
  workers.give([&](int rank) {
    const auto i = static_cast<size_t>(rank);
    gather(collective, rank, *memories[i], found[i]);
  });
  const bool is_in_time = is_done_within(workers, limit);
  if (!is_in_time) collective.give_up();
  std::string reason = fmt::format("they did not within {} s", limit.count() / 1000);
  try {
    workers.finish();
    if (is_in_time) reason = "what arrives is not what was sent";
  } catch (const Error& error) {
    if (is_in_time) reason = error.what();
  }
  if (is_in_time && found == std::vector(n_ranks, expected)) return;
  fail(ErrorKind::runtime, "the {} ranks cannot tell each other what they compute: {}", n_ranks, reason);
}

}  // namespace millrace::ranks
