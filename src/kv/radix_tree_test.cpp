// Pool and tree against a naive model (a list of remembered page sequences), with random operations.
#include "kv/radix_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace millrace {
namespace {

constexpr int64_t kPageSize = 4;
using Tokens = std::vector<int32_t>;

TEST(PagePool, TakesEachPageOnce) {
  PagePool pool(3);
  std::set<Page> taken;
  while (const auto page = pool.take()) taken.insert(*page);
  EXPECT_EQ(taken.size(), 3u);
  pool.hold(1);
  pool.release(1);
  EXPECT_EQ(pool.n_free(), 0);
  pool.release(1);
  EXPECT_EQ(pool.take(), 1);
}

TEST(PagePool, PanesLeaveInTheOrderOfTheirUse) {
  PagePool pool(6, {.n_positions = 2, .page_size = 1, .n_panes = 5});
  std::vector<Page> pages;
  for (int i = 0; i < 5; ++i) {
    pages.push_back(*pool.take());
    ASSERT_TRUE(pool.take_pane(pages.back()));
  }
  const Page without = *pool.take();
  EXPECT_FALSE(pool.take_pane(without));
  for (const Page page : pages) pool.set_cached(page, true);
  pool.need_pane(pages[1]);  // somebody else begins there
  pool.leave_pane(pages[4], PagePool::Left::at_the_end);
  pool.leave_pane(pages[0], PagePool::Left::behind);
  pool.leave_pane(pages[1], PagePool::Left::behind);
  EXPECT_EQ(pool.n_panes_available(), 2);
  pool.leave_pane(pages[1], PagePool::Left::behind);
  pool.leave_pane(pages[2], PagePool::Left::behind);
  std::vector<Page> order;
  while (const auto page = pool.idlest()) {
    order.push_back(*page);
    pool.drop_pane(*page);
  }
  EXPECT_EQ(order, (std::vector<Page>{pages[2], pages[0], pages[4], pages[1]}));
  EXPECT_TRUE(pool.take_pane(without));
  pool.leave_pane(without, PagePool::Left::at_the_end);
  EXPECT_FALSE(pool.has_pane(without)) << "the prefix cache does not keep the page";
}

TEST(RadixTree, ABeginningNeedsThePanesThatAreSeenAfterIt) {
  PagePool pool(8, {.n_positions = 3, .page_size = 1, .n_panes = 8});  // a row, and the two before it
  RadixTree tree(pool, 1);
  const Tokens tokens{1, 2, 3, 4, 5, 6};
  std::vector<Page> pages;
  for (size_t i = 0; i < tokens.size(); ++i) pages.push_back(*pool.take());
  for (const Page page : pages) pool.take_pane(page);
  tree.extend(tree.root(0), tokens, pages);
  for (const Page page : pages) pool.leave_pane(page, PagePool::Left::at_the_end);
  const auto n_known = [&](const Tokens& begun) {
    const RadixTree::Prefix prefix = tree.match(0, begun);
    const auto n = static_cast<int64_t>(prefix.pages.size());
    for (int64_t i = std::max<int64_t>(0, n - 2); i < n; ++i) {
      EXPECT_EQ(pool.n_needing(prefix.pages[static_cast<size_t>(i)]), 1);
      pool.leave_pane(prefix.pages[static_cast<size_t>(i)], PagePool::Left::at_the_end);
    }
    for (const Page page : prefix.pages) pool.release(page);
    return n;
  };
  EXPECT_EQ(n_known(tokens), 6);
  pool.drop_pane(pages[1]);
  pool.drop_pane(pages[4]);
  EXPECT_EQ(n_known(tokens), 4) << "of 5 and 6 positions the row after them would see the fifth";
  EXPECT_EQ(n_known({1, 2, 3}), 1);
  // What is computed again gives the known page its pane.
  std::vector<Page> again{*pool.take()};
  pool.take_pane(again[0]);
  tree.extend(tree.match(0, Tokens{1}).place, Tokens{2}, again);
  EXPECT_EQ(again[0], pages[1]);
  pool.leave_pane(again[0], PagePool::Left::at_the_end);
  EXPECT_EQ(n_known({1, 2, 3}), 3);
}

TEST(RadixTree, SaltsAreApart) {
  PagePool pool(4);
  RadixTree tree(pool, kPageSize);
  std::vector<Page> pages{*pool.take()};
  const Tokens tokens{1, 2, 3, 4, 5};
  tree.extend(tree.root(0), tokens, pages);
  EXPECT_EQ(tree.match(0, tokens).pages, pages);
  EXPECT_TRUE(tree.match(1, tokens).pages.empty());
  EXPECT_TRUE(tree.match(0, Tokens{1, 2, 3}).pages.empty());
}

TEST(RadixTree, ExchangesAPageForTheKnownOne) {
  PagePool pool(4);
  RadixTree tree(pool, 1);
  std::vector<Page> first{*pool.take()}, second{*pool.take(), *pool.take()};
  tree.extend(tree.root(0), Tokens{5}, first);
  tree.extend(tree.root(0), Tokens{5, 6}, second);
  EXPECT_EQ(second[0], first[0]);
  EXPECT_EQ(pool.n_holders(first[0]), 3);
  EXPECT_EQ(pool.n_free(), 2);
}

TEST(RadixTree, EvictsTheLeastRecentlyUsedLeafThatNobodyHolds) {
  PagePool pool(8);
  RadixTree tree(pool, 1);
  const Page a = *pool.take(), b = *pool.take(), c = *pool.take();
  std::vector<Page> ab{a, b}, only_c{c};
  tree.extend(tree.root(0), Tokens{1, 2}, ab);
  tree.extend(tree.root(0), Tokens{3}, only_c);
  for (const Page page : {a, b}) pool.release(page);  // c stays in use
  for (const Page page : tree.match(0, Tokens{1, 2}).pages) pool.release(page);
  ASSERT_TRUE(tree.evict_one());  // b: c is older but held, a is no leaf
  EXPECT_EQ(pool.n_holders(b), 0);
  ASSERT_TRUE(tree.evict_one());
  EXPECT_EQ(pool.n_holders(a), 0);
  EXPECT_FALSE(tree.evict_one());
  pool.release(c);
  EXPECT_TRUE(tree.evict_one());
  EXPECT_EQ(pool.n_free(), 8);
}

TEST(RadixTree, FindsThePageThatSharesMost) {
  PagePool pool(8);
  RadixTree tree(pool, 4);
  std::vector<Page> first{*pool.take()}, second{*pool.take()}, third{*pool.take(), *pool.take()};
  tree.extend(tree.root(0), Tokens{1, 2, 3, 4}, first);
  tree.extend(tree.root(0), Tokens{1, 2, 9, 9}, second);
  tree.extend(tree.root(0), Tokens{5, 5, 5, 5, 6, 7, 8, 9}, third);
  const auto partial = [&](const Tokens& tokens) {
    const RadixTree::Prefix prefix = tree.match(0, tokens);
    for (const Page page : prefix.pages) pool.release(page);
    const auto rest = std::span(tokens).subspan(prefix.pages.size() * 4);
    const RadixTree::Partial found = tree.match_partly(prefix.place, rest);
    return std::pair(found.page, found.n_tokens);
  };
  EXPECT_EQ(partial({1, 2, 3, 7, 7}), std::pair(first[0], int64_t{3}));
  EXPECT_EQ(partial({1, 2, 9}), std::pair(second[0], int64_t{3}));
  EXPECT_EQ(partial({5, 5, 5, 5, 6, 7}), std::pair(third[1], int64_t{2}));
  EXPECT_EQ(partial({5, 5, 5, 5}), std::pair(Page{-1}, int64_t{0}));
  EXPECT_EQ(partial({2, 2}), std::pair(Page{-1}, int64_t{0}));
}

class Snapshots : public testing::Test {
 protected:
  // Remembers `tokens`, one a page, and a snapshot after the first `n` for each n of `depths`.
  void remember(const Tokens& tokens, std::initializer_list<size_t> depths) {
    std::vector<Page> pages;
    for (size_t i = 0; i < tokens.size(); ++i) pages.push_back(*pool_.take());
    tree_.extend(tree_.root(0), tokens, pages);
    for (const Page page : pages) pool_.release(page);
    for (const size_t n : depths) {
      const Slot slot = *slots_.take();
      RadixTree::Place place = tree_.root(0);
      for (size_t i = 0; i < n; ++i) place = tree_.child(place, std::span(tokens).subspan(i));
      tree_.add_snapshot(place, slot);
      slots_.release(slot);
    }
    tree_.check_integrity();
  }
  // Pages of the deepest snapshot that `tokens` begin with, given back at once.
  size_t depth_of(const Tokens& tokens) {
    const RadixTree::Prefix prefix = tree_.match(0, tokens);
    for (const Page page : prefix.pages) pool_.release(page);
    if (prefix.snapshot >= 0) slots_.release(prefix.snapshot);
    tree_.check_integrity();
    return prefix.pages.size();
  }

  PagePool pool_{16};
  SlotPool slots_{3};
  RadixTree tree_{pool_, 1, &slots_};
};

TEST_F(Snapshots, TheDeepestOneThatIsShared) {
  remember({1, 2, 3, 4}, {1, 3});
  EXPECT_EQ(depth_of({1, 2, 3, 4}), 3u);
  EXPECT_EQ(depth_of({1, 2, 5}), 1u);
  EXPECT_EQ(depth_of({2, 2}), 0u);
  EXPECT_EQ(tree_.n_snapshots(), 2);
  remember({1, 2, 3}, {3});  // known: the first one stays
  EXPECT_EQ(tree_.n_snapshots(), 2);
  EXPECT_EQ(slots_.n_free(), 1);
}

TEST_F(Snapshots, TheLeastRecentlyUsedThatNobodyHoldsIsEvicted) {
  remember({1, 2, 3}, {1, 2, 3});
  EXPECT_EQ(depth_of({1, 9}), 1u);
  const RadixTree::Prefix held = tree_.match(0, Tokens{1, 2});
  EXPECT_EQ(held.pages.size(), 2u);
  ASSERT_TRUE(tree_.evict_snapshot());  // of 3: of the others it was used last of all
  EXPECT_EQ(depth_of({1, 2, 3}), 2u);
  ASSERT_TRUE(tree_.evict_snapshot());  // of 1: that of 2 is held
  EXPECT_FALSE(tree_.evict_snapshot());
  EXPECT_EQ(tree_.n_snapshots(), 1);
  EXPECT_EQ(tree_.n_pages(), 3) << "pages stay where they are";
}

TEST_F(Snapshots, GoWithTheirPages) {
  remember({1, 2}, {2});
  ASSERT_TRUE(tree_.evict_one());
  EXPECT_EQ(tree_.n_snapshots(), 0);
  EXPECT_EQ(slots_.n_free(), 3);
}

// What a router makes of the events: the beginnings that are known.
class Mirror final : public PrefixListener {
 public:
  void stored(const PageKey& key, const PageKey* before, std::span<const int32_t> tokens) override {
    Tokens beginning = before == nullptr ? Tokens{} : beginnings_.at(*before);
    beginning.insert(beginning.end(), tokens.begin(), tokens.end());
    EXPECT_EQ(tokens.size(), static_cast<size_t>(kPageSize));
    EXPECT_TRUE(known_.insert(beginning).second);
    EXPECT_TRUE(beginnings_.emplace(key, std::move(beginning)).second);
  }
  void removed(const PageKey& key) override {
    EXPECT_EQ(known_.erase(beginnings_.at(key)), 1u);
    beginnings_.erase(key);
  }

  size_t n_pages() const { return beginnings_.size(); }
  // Of the beginning of `tokens`.
  size_t n_known(const Tokens& tokens) const {
    size_t n = 0;
    while ((n + 1) * kPageSize <= tokens.size() &&
           known_.contains({tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>((n + 1) * kPageSize)}))
      ++n;
    return n;
  }

 private:
  std::map<PageKey, Tokens> beginnings_;
  std::set<Tokens> known_;
};

// Sequences come, match, take the pages they lack, insert and leave; the naive model remembers which pages
// were given for which beginning.
class RandomUse {
 public:
  RandomUse() { tree_.set_listener(&mirror_); }

  void step() {
    if (running_.size() < 6 && random_() % 2 == 0) {
      begin();
    } else if (!running_.empty() && random_() % 3 != 0) {
      end(random_() % running_.size());
    } else {
      tree_.evict_one();
    }
    tree_.check_integrity();
    check_pool();
  }

 private:
  struct Sequence {
    Tokens tokens;
    std::vector<Page> pages;
  };

  void begin() {
    Sequence sequence;
    const size_t n = kPageSize * (1 + random_() % 5);
    for (size_t i = 0; i < n; ++i) sequence.tokens.push_back(static_cast<int32_t>(random_() % 2));
    sequence.pages = tree_.match(0, sequence.tokens).pages;
    ASSERT_EQ(sequence.pages.size(), mirror_.n_known(sequence.tokens));
    for (size_t i = 0; i < sequence.pages.size(); ++i) {
      const Tokens beginning(sequence.tokens.begin(),
                             sequence.tokens.begin() + static_cast<ptrdiff_t>((i + 1) * kPageSize));
      ASSERT_EQ(content_[static_cast<size_t>(sequence.pages[i])], beginning)
          << "a matched page has other content";
    }
    while (sequence.pages.size() * kPageSize < n) {
      auto page = pool_.take();
      while (!page && tree_.evict_one()) page = pool_.take();
      if (!page) break;
      sequence.pages.push_back(*page);
      content_[static_cast<size_t>(*page)] =
          Tokens(sequence.tokens.begin(),
                 sequence.tokens.begin() + static_cast<ptrdiff_t>(sequence.pages.size() * kPageSize));
    }
    running_.push_back(std::move(sequence));
  }

  void end(size_t i) {
    Sequence& sequence = running_[i];
    tree_.extend(tree_.root(0), sequence.tokens, sequence.pages);
    for (const Page page : sequence.pages) pool_.release(page);
    running_.erase(running_.begin() + static_cast<ptrdiff_t>(i));
  }

  void check_pool() {
    std::vector<int32_t> n_held(static_cast<size_t>(pool_.n_pages()), 0);
    for (const Sequence& sequence : running_) {
      for (const Page page : sequence.pages) ++n_held[static_cast<size_t>(page)];
    }
    int64_t n_in_tree = 0, n_idle = 0;
    for (Page page = 0; page < pool_.n_pages(); ++page) {
      const int32_t by_tree = pool_.n_holders(page) - n_held[static_cast<size_t>(page)];
      ASSERT_TRUE(by_tree == 0 || by_tree == 1) << "page " << page;
      n_in_tree += by_tree;
      n_idle += by_tree == 1 && n_held[static_cast<size_t>(page)] == 0 ? 1 : 0;
    }
    ASSERT_EQ(n_in_tree, tree_.n_pages());
    ASSERT_EQ(mirror_.n_pages(), static_cast<size_t>(n_in_tree));
    ASSERT_EQ(n_idle, pool_.n_idle());
  }

  std::mt19937 random_{7};
  Mirror mirror_;
  PagePool pool_{24};
  RadixTree tree_{pool_, kPageSize};
  std::vector<Tokens> content_ = std::vector<Tokens>(24);
  std::vector<Sequence> running_;
};

TEST(RadixTree, AgreesWithANaiveModel) {
  RandomUse use;
  for (int i = 0; i < 400000 && !testing::Test::HasFailure(); ++i) use.step();
}

}  // namespace
}  // namespace millrace
