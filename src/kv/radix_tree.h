// What was computed before: a tree over token ids, shared by all requests. Each edge is the tokens of one
// full page.
//
//   root(salt) --[t0 .. t31]--> page 7 --[t32 .. t63]--> page 2
//                        \-----> ...   \-[other 32]----> page 9
//
// Invariants: the tree holds every page in it once; a node's page holds the keys and values of its edge's
// tokens at depth * page_size, computed after the tokens of all edges above it; siblings differ in their
// tokens. A page that somebody else holds too is in use: it and the pages above it are not evicted (whoever
// holds a page holds all above it). Salts keep apart what must not be shared, such as sequences with
// different rope tables.
//
// Recurrent layers need more than pages: a node may hold a slot too, a snapshot of the state after its
// tokens. A slot that nobody else holds is given back where slots are short, whatever becomes of the node.
//
// A place is a node as its users know it. It stays valid as long as somebody besides the tree holds its page;
// the place of a root always is.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "kv/page_pool.h"

namespace millrace {

class RadixTree {
  struct Node;

 public:
  using Place = Node*;

  // `pool` and `slots` must outlive the tree. `slots` is nullptr where no layer is recurrent.
  RadixTree(PagePool& pool, int64_t page_size, SlotPool* slots = nullptr);
  ~RadixTree();
  RadixTree(const RadixTree&) = delete;
  RadixTree& operator=(const RadixTree&) = delete;

  // Where every sequence of that salt begins.
  Place root(int32_t salt) { return &roots_[salt]; }

  struct Prefix {
    Place place;              // after the last page
    std::vector<Page> pages;  // each held once more for the caller
    Slot snapshot = -1;       // held once more for the caller; -1: there is none
  };
  // The longest known beginning of `tokens`.
  Prefix match(int32_t salt, std::span<const int32_t> tokens);
  // A page after `place` that begins with `tokens` as far as possible; not held.
  struct Partial {
    Page page = -1;
    int64_t n_tokens = 0;
  };
  Partial match_partly(Place place, std::span<const int32_t> tokens) const;
  // The longest known beginning whose last node has a snapshot: without one there are no pages.
  Prefix match_snapshot(int32_t salt, std::span<const int32_t> tokens);
  // How many tokens match() would find, in whole pages. Changes nothing, nor when anything was last used.
  int64_t n_known(int32_t salt, std::span<const int32_t> tokens) const;

  // Remembers that pages[i], which the caller holds, is the i-th page of `tokens` (pages.size() * page_size
  // at least) after `place`. Where those tokens are known already, pages[i] is exchanged for the known page,
  // which holds the same bits: so the caller holds all pages above any that it holds, and nothing is kept
  // twice. Returns the place after the last of them.
  Place extend(Place place, std::span<const int32_t> tokens, std::span<Page> pages);

  // Remembers that `slot`, which the caller holds, is the state at `place`, which is no root. Where there is
  // a snapshot already it stays, for it holds the same bits.
  void add_snapshot(Place place, Slot slot);

  // Gives back the least recently used snapshot that nobody else holds; false when there is none.
  bool evict_snapshot();

  // Gives back the least recently used leaf that nobody else holds; false when there is none.
  bool evict_one();

  int64_t n_pages() const { return n_pages_; }
  int64_t n_snapshots() const { return static_cast<int64_t>(snapshots_.size()); }
  // Aborts where an invariant does not hold. For tests.
  void check_integrity() const;

 private:
  struct Node {
    Node* parent = nullptr;
    const std::vector<int32_t>* edge = nullptr;  // the key of this node in parent->children
    Page page = -1;                              // -1: a root
    uint64_t last_used = 0;
    Slot snapshot = -1;
    uint64_t snapshot_used = 0;
    std::map<std::vector<int32_t>, std::unique_ptr<Node>> children{};
  };

  // The child of `node` whose edge `tokens` begin with, or nullptr.
  Node* child_of(const Node& node, std::span<const int32_t> tokens) const;
  void touch(Node& node);
  void touch_snapshot(Node& node);
  void drop_snapshot(Node& node);
  int64_t check_subtree(const Node& node) const;

  PagePool& pool_;
  size_t page_size_;
  SlotPool* slots_;
  int64_t n_pages_ = 0;
  uint64_t clock_ = 0;
  std::map<int32_t, Node> roots_;
  std::set<std::pair<uint64_t, Node*>> leaves_;     // by last use
  std::set<std::pair<uint64_t, Node*>> snapshots_;  // the nodes that have one, by its last use
};

}  // namespace millrace
