// Threads that wait for each other, whatever their pace; and where pieces of cut tensors lie.
#include "backend/ranks/ranks.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>

#include "backend/ranks/first_gather.h"
#include "backend/ranks/memory.h"
#include "backend/ranks/workers.h"
#include "base/await_change.h"

namespace millrace::ranks {
namespace {

std::vector<Memory*> program_memories(size_t n) { return std::vector<Memory*>(n, &program_memory()); }

TEST(Workers, DoAllInOrderOnTheirOwn) {
  std::vector<std::vector<int>> done(3);
  Workers workers(
      3, [] {}, [] {});
  for (int i = 0; i < 500; ++i)
    workers.give([&done, i](int rank) { done[static_cast<size_t>(rank)].push_back(i); });
  workers.finish();
  std::vector<int> all(500);
  std::iota(all.begin(), all.end(), 0);
  for (const std::vector<int>& each : done) EXPECT_EQ(each, all);
}

TEST(Workers, AFailureEndsThemAllAndIsTold) {
  SharedCollective collective(program_memories(3));
  Workers workers(
      3, [&collective] { collective.give_up(); }, [&collective] { collective.begin_again(); });
  std::atomic<int> n_later{0}, n_gathered{0};
  const auto gather = [&](int rank) {
    std::byte from{}, to[3];
    collective.all_gather(rank, {&from, 1}, to);
    ++n_gathered;
  };
  for (int round = 1; round <= 20; ++round) {
    workers.give([&](int rank) {
      if (rank == round % 3) fail(ErrorKind::does_not_fit, "no room");
      gather(rank);
    });
    workers.wait();
    EXPECT_THROW(workers.give([&](int) { ++n_later; }), Error);
    workers.give(gather);  // it has been told: all begin again
    workers.finish();
    EXPECT_EQ(n_gathered, 3 * round);
  }
  EXPECT_EQ(n_later, 0);
}

TEST(Workers, WhereThereIsNoGoingOnThatIsSaid) {
  SharedCollective collective(program_memories(2));
  Workers workers(
      2, [&collective] { collective.give_up(); }, [] { fail(ErrorKind::runtime, "the device is gone"); });
  const auto sentence = [&](const auto& use) -> std::string {
    try {
      use();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  workers.give([&](int rank) {
    if (rank == 1) fail(ErrorKind::runtime, "a kernel failed");
    std::byte from{}, to[2];
    collective.all_gather(rank, {&from, 1}, to);
  });
  EXPECT_EQ(sentence([&] { workers.finish(); }), "a kernel failed");
  EXPECT_EQ(sentence([&] { workers.finish(); }), "the device is gone");
  EXPECT_EQ(sentence([&] { workers.give([](int) {}); }), "the device is gone");
}

// Of one rank they never come, or are wrong.
class DeafCollective final : public Collective {
 public:
  explicit DeafCollective(bool is_silent) : is_silent_(is_silent) {}
  void all_gather(int rank, std::span<const std::byte> from, std::byte* to) override {
    for (size_t i = 0; i < 2 * from.size(); ++i) to[i] = std::byte{};
    if (rank == 0 && is_silent_) await_change(has_given_up_, false);
  }
  void give_up() override {
    has_given_up_ = true;
    has_given_up_.notify_all();
  }
  void begin_again() override {}

 private:
  const bool is_silent_;
  std::atomic<bool> has_given_up_{false};
};

TEST(GatherFirst, FindsOutWhoDoesNotHear) {
  const auto sentence = [](bool is_silent) -> std::string {
    DeafCollective collective(is_silent);
    Workers workers(
        2, [&] { collective.give_up(); }, [] {});
    try {
      gather_first(collective, program_memories(2), workers,
                   std::chrono::milliseconds(is_silent ? 20 : 20000));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(sentence(true), "the 2 ranks cannot tell each other what they compute: they did not within 0 s");
  EXPECT_EQ(sentence(false),
            "the 2 ranks cannot tell each other what they compute: what arrives is not what was sent");
}

// Of a device that another one waits for, and which has failed since all was given to them.
TEST(RanksMemory, AFailureOfOneEndsTheWaitOfOthers) {
  class Waiting final : public ForwardingMemory {
   public:
    explicit Waiting(std::function<void()> wait)
        : ForwardingMemory(program_memory()), wait_(std::move(wait)) {}
    bool is_of_program() const override { return false; }
    void wait() override { wait_(); }

   private:
    std::function<void()> wait_;
  };
  std::atomic<bool> has_given_up{false};
  Waiting first([&] { await_change(has_given_up, false); });
  Waiting second([] { fail(ErrorKind::runtime, "a kernel failed"); });
  const auto give_up = [&] {
    has_given_up = true;
    has_given_up.notify_all();
  };
  Workers workers(2, give_up, [&] { second.wait(); });
  const Plan plan;
  RanksMemory memory({&first, &second}, plan, workers);
  for (int i = 0; i < 2; ++i) {
    try {
      memory.wait();
      FAIL() << "a device has failed";
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), "a kernel failed");
    }
  }
}

// Many rounds of other lengths: nobody sees what belongs to another round.
TEST(SharedCollective, EveryRankGetsWhatEachGives) {
  constexpr int kRanks = 3;
  SharedCollective collective(program_memories(kRanks));
  std::vector<int> n_wrong(kRanks, 0);
  Workers workers(
      kRanks, [&collective] { collective.give_up(); }, [] {});
  for (int round = 0; round < 300; ++round) {
    workers.give([&, round](int rank) {
      const size_t n = 1 + static_cast<size_t>(round) % 50;
      const auto byte_of = [round](size_t of_rank, size_t i) {
        return static_cast<std::byte>(static_cast<size_t>(round) * 7 + of_rank * 31 + i);
      };
      std::vector<std::byte> from(n), to(kRanks * n);
      for (size_t i = 0; i < n; ++i) from[i] = byte_of(static_cast<size_t>(rank), i);
      collective.all_gather(rank, from, to.data());
      for (size_t i = 0; i < to.size(); ++i)
        n_wrong[static_cast<size_t>(rank)] += to[i] == byte_of(i / n, i % n) ? 0 : 1;
    });
  }
  workers.finish();
  EXPECT_EQ(n_wrong, std::vector<int>(kRanks, 0));
}

// Every element by its index, against the definition.
TEST(Slices, PiecesAreTheElementsOfARank) {
  constexpr int64_t kOuter = 3, kLength = 12, kInner = 5;
  std::vector<float> numbers(kOuter * kLength * kInner);
  std::iota(numbers.begin(), numbers.end(), 0.0f);
  const Tensor whole(numbers.data(), Dtype::f32, {kOuter, kLength, kInner});
  const Cut cut{.slices = {.n_segments = 2, .n_units = 3, .runs = {{0, 1}, {1, 3}, {0, 2}}}, .axis = 1};
  for (int rank = 0; rank < 3; ++rank) {
    const auto [begin, end] = cut.slices.run(rank);
    std::vector<float> expected;
    for (int64_t i = 0; i < kOuter * kLength; ++i) {
      const int64_t unit = i % kLength % 6 / 2;  // 6 a segment, 2 a unit
      if (unit < begin || unit >= end) continue;
      for (int64_t j = 0; j < kInner; ++j) expected.push_back(numbers[static_cast<size_t>(i * kInner + j)]);
    }
    const Tensor local = cut.local_shape(whole, rank);
    ASSERT_EQ(local.n_elems(), std::ssize(expected));
    std::vector<float> found(expected.size());
    for (const Piece& piece : pieces(whole, cut, rank))
      std::memcpy(reinterpret_cast<std::byte*>(found.data()) + piece.local_begin,
                  whole.data + piece.whole_begin, static_cast<size_t>(piece.n_bytes));
    EXPECT_EQ(found, expected);

    // Of a range, the same pieces as far as they lie in it.
    std::mt19937 random(1);
    for (int i = 0; i < 200; ++i) {
      int64_t first = static_cast<int64_t>(random()) % whole.n_bytes();
      int64_t last = static_cast<int64_t>(random()) % whole.n_bytes();
      if (first > last) std::swap(first, last);
      for (const Piece& piece : pieces(whole, cut, rank, first, last)) {
        EXPECT_GE(piece.whole_begin, first);
        EXPECT_LE(piece.whole_begin + piece.n_bytes, last);
        const auto* const local_bytes = reinterpret_cast<const std::byte*>(expected.data());
        EXPECT_EQ(std::memcmp(local_bytes + piece.local_begin, whole.data + piece.whole_begin,
                              static_cast<size_t>(piece.n_bytes)),
                  0);
      }
    }
  }
}

TEST(Slices, BlocksAreNotCut) {
  std::vector<std::byte> bytes(2 * 8 * 18);  // Q4_0: 32 elements in 18 bytes
  const Tensor whole(bytes.data(), Dtype::q4_0, {2, 256});
  const Cut cut{.slices = {.n_segments = 1, .n_units = 4, .runs = {{0, 1}, {1, 4}}}, .axis = 1};
  EXPECT_EQ(cut.local_shape(whole, 1).dim(1), 192);
  EXPECT_FALSE(cut.is_view(whole));
  const std::vector<Piece> found = pieces(whole, cut, 1);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[1].whole_begin, 8 * 18 + 2 * 18);
  EXPECT_EQ(found[1].local_begin, 6 * 18);
  EXPECT_EQ(found[1].n_bytes, 6 * 18);
  const Cut rows{.slices = {.n_segments = 1, .n_units = 2, .runs = {{0, 1}, {1, 2}}}, .axis = 0};
  ASSERT_TRUE(rows.is_view(whole));
  EXPECT_EQ(rows.view(whole, 1).data, bytes.data() + 8 * 18);
}

}  // namespace
}  // namespace millrace::ranks
