#include "serve/kv_event_queue.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

PageKey key(unsigned char last) {
  PageKey out{};
  out[24] = 1;
  out[31] = last;
  return out;
}

constexpr uint64_t kHash = uint64_t{1} << 56;

TEST(KvEventQueue, PutsTogetherWhatFollows) {
  KvEventQueue queue;
  const PageKey one = key(1), two = key(2), three = key(3);
  const std::vector<int32_t> tokens{7, 8};
  queue.stored(one, nullptr, tokens);
  queue.stored(two, &one, tokens);
  queue.stored(three, &one, tokens);  // another branch
  queue.removed(two);
  queue.removed(three);
  queue.flush();
  queue.flush();  // nothing: no batch
  const std::vector<KvEventBatch> batches = queue.take();
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].number, 0u);
  const std::vector<KvEvent>& events = batches[0].events;
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].hashes, (std::vector<uint64_t>{kHash + 1, kHash + 2}));
  EXPECT_EQ(events[0].parent, std::nullopt);
  EXPECT_EQ(events[0].tokens, (std::vector<int32_t>{7, 8, 7, 8}));
  EXPECT_EQ(events[1].hashes, std::vector<uint64_t>{kHash + 3});
  EXPECT_EQ(events[1].parent, kHash + 1);
  EXPECT_EQ(events[2].kind, KvEvent::Kind::removed);
  EXPECT_EQ(events[2].hashes, (std::vector<uint64_t>{kHash + 2, kHash + 3}));
  EXPECT_TRUE(queue.take().empty());
}

TEST(KvEventQueue, WhatIsDroppedIsMissedInTheNumbers) {
  KvEventQueue queue(2);
  for (unsigned char i = 0; i < 5; ++i) {
    queue.removed(key(i));
    queue.flush();
  }
  EXPECT_EQ(queue.take().size(), 2u);
  queue.cleared();
  queue.flush();
  const std::vector<KvEventBatch> batches = queue.take();
  ASSERT_EQ(batches.size(), 1u);
  EXPECT_EQ(batches[0].number, 5u);
  EXPECT_EQ(batches[0].events[0].kind, KvEvent::Kind::cleared);
  EXPECT_EQ(queue.counts().n_batches, 6u);
  EXPECT_EQ(queue.counts().n_dropped, 3u);
}

}  // namespace
}  // namespace millrace
