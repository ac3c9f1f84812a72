#include "base/channel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <vector>

namespace millrace {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(Channel, KeepsTheOrder) {
  Channel<int> channel;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(channel.push(i));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(channel.pop(), i);
  EXPECT_EQ(channel.try_pop(), std::nullopt);
}

TEST(Channel, GivesWhatWasWrittenBeforeClosing) {
  Channel<int> channel;
  channel.push(1);
  channel.close();
  EXPECT_FALSE(channel.push(2));
  EXPECT_EQ(channel.pop(), 1);
  EXPECT_EQ(channel.pop(), std::nullopt);
  EXPECT_EQ(channel.pop(), std::nullopt);
}

TEST(Channel, CarriesWhatCannotBeCopied) {
  Channel<std::unique_ptr<int>> channel;
  channel.push(std::make_unique<int>(7));
  EXPECT_EQ(**channel.pop(), 7);
}

TEST(Channel, WaitsUntilTheDeadline) {
  Channel<int> channel;
  const auto begin = steady_clock::now();
  EXPECT_EQ(channel.pop_until(begin + milliseconds(20)), std::nullopt);
  EXPECT_GE(steady_clock::now() - begin, milliseconds(20));
  channel.push(1);
  EXPECT_EQ(channel.pop_until(begin), 1);  // a deadline of the past still gets what is there
}

TEST(Channel, ClosingWakesAllReaders) {
  Channel<int> channel;
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) readers.emplace_back([&channel] { EXPECT_EQ(channel.pop(), std::nullopt); });
  channel.close();
  for (std::thread& reader : readers) reader.join();
}

TEST(Channel, GivesEachValueToOneReader) {
  Channel<int> channel;
  constexpr int kWriters = 3, kEach = 5000;
  std::vector<std::vector<int>> seen(3);
  std::vector<std::thread> readers, writers;
  for (auto& mine : seen) {
    readers.emplace_back([&channel, &mine] {
      while (const auto value = channel.pop()) mine.push_back(*value);
    });
  }
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&channel, writer] {
      for (int i = 0; i < kEach; ++i) channel.push(writer * kEach + i);
    });
  }
  for (std::thread& writer : writers) writer.join();
  channel.close();
  for (std::thread& reader : readers) reader.join();
  std::vector<int> all;
  for (const auto& mine : seen) all.insert(all.end(), mine.begin(), mine.end());
  std::ranges::sort(all);
  ASSERT_EQ(all.size(), static_cast<size_t>(kWriters * kEach));
  for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], static_cast<int>(i));
}

}  // namespace
}  // namespace millrace
