// Random writes and reads on both sides against bytes that are written at once everywhere.
#include "backend/split/mirror.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace millrace::split {
namespace {

// Counts what is copied to it and from it.
class CountingMemory final : public Memory {
 public:
  bool is_of_program() const override { return false; }
  std::byte* allocate(size_t n_bytes) override { return program_memory().allocate(n_bytes); }
  void release(std::byte* memory, size_t n_bytes) override { program_memory().release(memory, n_bytes); }
  int64_t free_bytes() const override { return INT64_MAX; }
  void write(std::byte* to, std::span<const std::byte> from) override { copy(from.data(), to, from.size()); }
  void read(const std::byte* from, std::span<std::byte> to) override { copy(from, to.data(), to.size()); }
  void copy(const std::byte* from, std::byte* to, size_t n_bytes) override {
    std::memcpy(to, from, n_bytes);
    n_copied += n_bytes;
  }

  size_t n_copied = 0;
};

constexpr size_t kBytes = 64;

// The bytes of the program's half that a test names by numbers.
std::span<std::byte> part(const Mirror& mirror, size_t begin, size_t end) {
  return {mirror.begin() + begin, end - begin};
}

void fill(const Mirror& mirror, Side side, size_t begin, size_t end, std::byte value) {
  std::memset(mirror.on(side, mirror.begin() + begin), static_cast<int>(value), end - begin);
}

TEST(Mirror, EachSideReadsTheNewest) {
  CountingMemory device;
  Mirror mirror(kBytes, device);
  std::vector<std::byte> expected(kBytes);
  std::mt19937 random(5);
  for (int step = 0; step < 20000; ++step) {
    size_t begin = random() % (kBytes + 1), end = random() % (kBytes + 1);
    if (begin > end) std::swap(begin, end);
    if (begin == end) continue;
    const Side side = random() % 2 == 0 ? Side::program : Side::device;
    const auto value = static_cast<std::byte>(random());
    const std::span<std::byte> bytes = part(mirror, begin, end);
    switch (random() % 5) {
      case 0:
      case 1:
        fill(mirror, side, begin, end, value);
        mirror.note_written(bytes, side);
        std::fill(expected.begin() + static_cast<ptrdiff_t>(begin),
                  expected.begin() + static_cast<ptrdiff_t>(end), value);
        break;
      case 2: {
        const std::vector<std::byte> from(end - begin, value);
        mirror.write(bytes.data(), from);
        std::ranges::copy(from, expected.begin() + static_cast<ptrdiff_t>(begin));
        break;
      }
      default:
        mirror.bring(bytes, side);
        ASSERT_EQ(std::memcmp(mirror.on(side, bytes.data()), expected.data() + begin, end - begin), 0)
            << "step " << step;
    }
  }
}

TEST(Mirror, CopiesWhatIsOldAndOnce) {
  CountingMemory device;
  Mirror mirror(kBytes, device);
  mirror.bring(part(mirror, 0, kBytes), Side::device);
  EXPECT_EQ(device.n_copied, 0u);  // both begin alike
  mirror.note_written(part(mirror, 10, 30), Side::program);
  mirror.note_written(part(mirror, 20, 40), Side::device);
  mirror.bring(part(mirror, 0, 15), Side::device);
  EXPECT_EQ(device.n_copied, 5u);
  mirror.bring(part(mirror, 0, kBytes), Side::device);
  EXPECT_EQ(device.n_copied, 10u);
  mirror.bring(part(mirror, 0, kBytes), Side::program);
  EXPECT_EQ(device.n_copied, 30u);
  mirror.bring(part(mirror, 0, kBytes), Side::device);
  mirror.bring(part(mirror, 0, kBytes), Side::program);
  EXPECT_EQ(device.n_copied, 30u);
}

}  // namespace
}  // namespace millrace::split
