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
// Layers with a window need the panes (page_pool.h) of the pages that the next row sees: a beginning is of
// use only where those are there. An idle pane leaves without its node, when another page needs one.
//
// What leaves the tree goes to a tier where there is one (page_tier.h), and what is worth it before: nodes of
// beginnings that are long enough, from the root down, as long as keep_next() is called.
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
#include "kv/page_tier.h"
#include "kv/prefix_listener.h"

namespace millrace {

class RadixTree {
  struct Node;

 public:
  using Place = Node*;

  // `pool`, `slots` and `tier` must outlive the tree. `slots` is nullptr where no layer is recurrent. `tier`
  // gets beginnings of `n_kept_pages` pages and more; nullptr where there is none.
  RadixTree(PagePool& pool, int64_t page_size, SlotPool* slots = nullptr, PageTier* tier = nullptr,
            int64_t n_kept_pages = 1);
  ~RadixTree();
  RadixTree(const RadixTree&) = delete;
  RadixTree& operator=(const RadixTree&) = delete;

  // Who is told of every page that comes and goes, but not of the end. Before there is any; it must outlive
  // the tree.
  void set_listener(PrefixListener* listener) { listener_ = listener; }

  // Where every sequence of that salt begins.
  Place root(int32_t salt);

  struct Prefix {
    Place place;              // after the last page
    std::vector<Page> pages;  // each held once more for the caller
    Slot snapshot = -1;       // held once more for the caller; -1: there is none
  };
  // The longest known beginning of `tokens` that can be gone on from: with a snapshot of the states and with
  // the panes that the next row sees, where there are such layers. Those panes are needed once more then.
  Prefix match(int32_t salt, std::span<const int32_t> tokens);
  // A page after `place` that begins with `tokens` as far as possible; not held.
  struct Partial {
    Page page = -1;
    int64_t n_tokens = 0;
  };
  Partial match_partly(Place place, std::span<const int32_t> tokens) const;
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

  // The node after `place` for the page that `tokens` begin with; nullptr where it is not known.
  Place child(Place place, std::span<const int32_t> tokens) const { return child_of(*place, tokens); }
  static Page page_of(Place place) { return place->page; }
  static Place parent_of(Place place) { return place->parent; }  // of one that is no root
  // How a tier and a listener know it. Where there is neither nobody has a key.
  static const PageKey& key_of(Place place) { return place->key; }
  // What is at `place` came from the tier.
  void set_page_kept(Place place);
  void set_pane_kept(Place place);
  void set_snapshot_kept(Place place);
  // Saves the next page, its pane and its snapshot, that should not have to leave for that; false when there
  // is none.
  bool keep_next();
  bool has_to_keep() const { return !to_keep_.empty(); }

  // Gives back the least recently used snapshot that nobody else holds; false when there is none.
  bool evict_snapshot();

  // Gives back the pane that is the first to leave; false when somebody needs each of them.
  bool evict_pane();

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
    PageKey key{};      // where somebody asks for it
    int64_t depth = 0;  // pages from the root
    // Where there is a tier:
    bool is_worth_keeping = false;
    bool is_page_kept = false, is_pane_kept = false, is_snapshot_kept = false;
    uint64_t keep_turn = 0;  // in to_keep_; 0: it is not there
    std::map<std::vector<int32_t>, std::unique_ptr<Node>> children{};
  };

  // The child of `node` whose edge `tokens` begin with, or nullptr.
  Node* child_of(const Node& node, std::span<const int32_t> tokens) const;
  bool has_keys() const { return tier_ != nullptr || listener_ != nullptr; }
  void tell_stored(const Node& node) const;
  // Of that many pages, those from there on are seen by the row after them.
  size_t first_needed_page(size_t n_pages) const {
    return static_cast<size_t>(pool_.window().first_page(static_cast<int64_t>(n_pages * page_size_)));
  }
  bool has_pane(const Node& node) const {
    return pool_.window().n_positions > 0 && pool_.has_pane(node.page);
  }
  void touch(Node& node);
  void touch_snapshot(Node& node);
  void drop_snapshot(Node& node);
  void want_kept(Node& node);
  void keep(Node& node);
  void keep_pane(Node& node);
  void keep_snapshot(Node& node);
  bool is_all_kept(const Node& node) const;
  void forget_turn(Node& node);
  int64_t check_subtree(const Node& node) const;

  PagePool& pool_;
  size_t page_size_;
  SlotPool* slots_;
  PageTier* tier_;
  PrefixListener* listener_ = nullptr;
  int64_t n_kept_pages_;
  int64_t n_pages_ = 0;
  uint64_t clock_ = 0;
  std::map<int32_t, Node> roots_;
  std::vector<Node*> nodes_;                        // by page; nullptr where the tree does not hold it
  std::set<std::pair<uint64_t, Node*>> leaves_;     // by last use
  std::set<std::pair<uint64_t, Node*>> snapshots_;  // the nodes that have one, by its last use
  std::map<uint64_t, Node*> to_keep_;               // by turn
  uint64_t n_turns_ = 0;
};

}  // namespace millrace
