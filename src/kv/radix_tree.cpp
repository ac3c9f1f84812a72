#include "kv/radix_tree.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace millrace {

RadixTree::RadixTree(PagePool& pool, int64_t page_size, SlotPool* slots, PageTier* tier, int64_t n_kept_pages)
    : pool_(pool),
      page_size_(static_cast<size_t>(page_size)),
      slots_(slots),
      tier_(tier),
      n_kept_pages_(n_kept_pages),
      nodes_(static_cast<size_t>(pool.n_pages()), nullptr) {}

RadixTree::~RadixTree() {
  tier_ = nullptr;  // nothing leaves: all ends
  listener_ = nullptr;
  while (evict_one()) {
  }
}

RadixTree::Place RadixTree::root(int32_t salt) {
  const auto [root, is_new] = roots_.try_emplace(salt);
  if (is_new && has_keys()) root->second.key = root_key(salt);
  return &root->second;
}

void RadixTree::touch(Node& node) {
  const bool is_leaf = node.children.empty() && node.page >= 0;
  if (is_leaf) leaves_.erase({node.last_used, &node});
  node.last_used = ++clock_;
  if (is_leaf) leaves_.insert({node.last_used, &node});
}

void RadixTree::touch_snapshot(Node& node) {
  snapshots_.erase({node.snapshot_used, &node});
  node.snapshot_used = ++clock_;
  snapshots_.insert({node.snapshot_used, &node});
}

void RadixTree::drop_snapshot(Node& node) {
  if (node.snapshot < 0) return;
  keep_snapshot(node);
  snapshots_.erase({node.snapshot_used, &node});
  slots_->release(std::exchange(node.snapshot, -1));
}

RadixTree::Node* RadixTree::child_of(const Node& node, std::span<const int32_t> tokens) const {
  if (tokens.size() < page_size_) return nullptr;
  const auto child =
      node.children.find({tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(page_size_)});
  return child == node.children.end() ? nullptr : child->second.get();
}

RadixTree::Prefix RadixTree::match(int32_t salt, std::span<const int32_t> tokens) {
  Prefix prefix{.place = root(salt)};
  std::vector<Node*> nodes;
  size_t n_usable = 0, n_with_panes = 0;  // of the newest pages, one after the other
  for (Node* node = prefix.place; (node = child_of(*node, tokens)) != nullptr;) {
    tokens = tokens.subspan(page_size_);
    nodes.push_back(node);
    n_with_panes = pool_.has_pane(node->page) ? n_with_panes + 1 : 0;
    const size_t first_needed = first_needed_page(nodes.size());
    const bool has_state = slots_ == nullptr || node->snapshot >= 0;
    if (has_state && first_needed + n_with_panes >= nodes.size()) n_usable = nodes.size();
  }
  nodes.resize(n_usable);
  for (size_t i = 0; i < n_usable; ++i) {
    touch(*nodes[i]);
    pool_.hold(nodes[i]->page);
    if (i >= first_needed_page(n_usable)) pool_.need_pane(nodes[i]->page);
    prefix.pages.push_back(nodes[i]->page);
  }
  if (n_usable == 0) return prefix;
  prefix.place = nodes.back();
  if (slots_ == nullptr) return prefix;
  touch_snapshot(*prefix.place);
  prefix.snapshot = prefix.place->snapshot;
  slots_->hold(prefix.snapshot);
  return prefix;
}

// Children are sorted: the one with the longest common beginning stands beside the place that `tokens` would
// have.
RadixTree::Partial RadixTree::match_partly(Place place, std::span<const int32_t> tokens) const {
  Partial best;
  const auto consider = [&](const auto& child) {
    const std::vector<int32_t>& edge = child->first;
    const auto n = static_cast<ptrdiff_t>(std::min(edge.size(), tokens.size()));
    const int64_t n_common =
        std::mismatch(edge.begin(), edge.begin() + n, tokens.begin()).first - edge.begin();
    if (n_common > best.n_tokens) best = {child->second->page, n_common};
  };
  const size_t n = std::min(page_size_, tokens.size());
  const auto next = place->children.lower_bound({tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(n)});
  if (next != place->children.end()) consider(next);
  if (next != place->children.begin()) consider(std::prev(next));
  return best;
}

int64_t RadixTree::n_known(int32_t salt, std::span<const int32_t> tokens) const {
  const auto root = roots_.find(salt);
  if (root == roots_.end()) return 0;
  int64_t n = 0;
  for (const Node* node = &root->second; (node = child_of(*node, tokens)) != nullptr;) {
    tokens = tokens.subspan(page_size_);
    n += static_cast<int64_t>(page_size_);
  }
  return n;
}

RadixTree::Place RadixTree::extend(Place place, std::span<const int32_t> tokens, std::span<Page> pages) {
  check(tokens.size() >= pages.size() * page_size_, "a page in the tree is full");
  for (Page& page : pages) {
    auto [child, is_new] =
        place->children.try_emplace({tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(page_size_)});
    tokens = tokens.subspan(page_size_);
    if (is_new) {
      leaves_.erase({place->last_used, place});
      child->second = std::make_unique<Node>(
          Node{.parent = place, .edge = &child->first, .page = page, .depth = place->depth + 1});
      if (has_keys()) child->second->key = next_key(place->key, child->first);
      pool_.hold(page);
      pool_.set_cached(page, true);
      nodes_[static_cast<size_t>(page)] = child->second.get();
      ++n_pages_;
      tell_stored(*child->second);
    }
    place = child->second.get();
    if (place->page != page) {
      pool_.hold(place->page);
      pool_.move_pane(page, place->page);
      pool_.release(std::exchange(page, place->page));
      if (place->is_worth_keeping) want_kept(*place);  // its pane, which may be new
    }
    touch(*place);
    if (is_new && place->depth >= n_kept_pages_) want_kept(*place);
  }
  return place;
}

void RadixTree::tell_stored(const Node& node) const {
  if (listener_ == nullptr) return;
  const Node& before = *node.parent;
  listener_->stored(node.key, before.page < 0 ? nullptr : &before.key, *node.edge);
}

// With all before it: without them it is of no use.
void RadixTree::want_kept(Node& node) {
  if (tier_ == nullptr || node.page < 0) return;
  if (!std::exchange(node.is_worth_keeping, true)) want_kept(*node.parent);
  if (!is_all_kept(node) && node.keep_turn == 0) to_keep_.emplace(node.keep_turn = ++n_turns_, &node);
}

bool RadixTree::is_all_kept(const Node& node) const {
  return node.is_page_kept && (node.is_pane_kept || !has_pane(node)) &&
         (node.is_snapshot_kept || node.snapshot < 0);
}

void RadixTree::forget_turn(Node& node) {
  if (node.keep_turn > 0) to_keep_.erase(std::exchange(node.keep_turn, 0));
}

void RadixTree::keep_snapshot(Node& node) {
  if (tier_ == nullptr || node.snapshot < 0 || !node.is_worth_keeping) return;
  if (!std::exchange(node.is_snapshot_kept, true))
    tier_->save_state(state_key(node.key), node.snapshot, PageTier::Keep::shared);
}

void RadixTree::keep_pane(Node& node) {
  if (tier_ == nullptr || !has_pane(node) || !node.is_worth_keeping) return;
  if (!std::exchange(node.is_pane_kept, true))
    tier_->save_pane(pane_key(node.key), pool_.pane_of(node.page), PageTier::Keep::shared);
}

void RadixTree::keep(Node& node) {
  if (tier_ == nullptr || !node.is_worth_keeping) return;
  if (!std::exchange(node.is_page_kept, true)) tier_->save(node.key, node.page, PageTier::Keep::shared);
  keep_pane(node);
  keep_snapshot(node);
  forget_turn(node);
}

bool RadixTree::keep_next() {
  if (to_keep_.empty()) return false;
  keep(*to_keep_.begin()->second);
  return true;
}

void RadixTree::set_page_kept(Place place) {
  place->is_page_kept = true;
  want_kept(*place);  // those above it, which may have been computed
  if (is_all_kept(*place)) forget_turn(*place);
}

void RadixTree::set_pane_kept(Place place) {
  place->is_pane_kept = true;
  if (is_all_kept(*place)) forget_turn(*place);
}

void RadixTree::set_snapshot_kept(Place place) {
  place->is_snapshot_kept = true;
  if (is_all_kept(*place)) forget_turn(*place);
}

void RadixTree::add_snapshot(Place place, Slot slot) {
  check(place->page >= 0, "a snapshot is of some tokens");
  if (place->snapshot < 0) {
    place->snapshot = slot;
    slots_->hold(slot);
    if (place->is_worth_keeping) want_kept(*place);
  }
  touch_snapshot(*place);
}

bool RadixTree::evict_snapshot() {
  for (const auto& [last_used, node] : snapshots_) {
    if (slots_->n_holders(node->snapshot) > 1) continue;
    drop_snapshot(*node);
    return true;
  }
  return false;
}

bool RadixTree::evict_pane() {
  const std::optional<Page> page = pool_.idlest();
  if (!page) return false;
  keep_pane(*nodes_[static_cast<size_t>(*page)]);
  pool_.drop_pane(*page);
  return true;
}

bool RadixTree::evict_one() {
  for (const auto& [last_used, leaf] : leaves_) {
    if (pool_.n_holders(leaf->page) > 1) continue;
    Node* node = leaf;
    Node* parent = node->parent;
    const uint64_t last_used_of_leaf = last_used;  // erase() takes the pair
    leaves_.erase({last_used_of_leaf, node});
    keep(*node);
    drop_snapshot(*node);
    nodes_[static_cast<size_t>(node->page)] = nullptr;
    pool_.set_cached(node->page, false);
    pool_.release(node->page);
    --n_pages_;
    if (listener_ != nullptr) listener_->removed(node->key);
    parent->children.erase(*node->edge);
    // extend() touches what it adds, not what it goes on from: that was used when its children were.
    parent->last_used = std::max(parent->last_used, last_used_of_leaf);
    if (parent->children.empty() && parent->page >= 0) leaves_.insert({parent->last_used, parent});
    return true;
  }
  return false;
}

int64_t RadixTree::check_subtree(const Node& node) const {
  int64_t n = 0;
  for (const auto& [edge, child] : node.children) {
    check(edge.size() == page_size_ && child->parent == &node && child->edge == &edge,
          "a child knows its place");
    check(pool_.n_holders(child->page) > 0, "the tree holds its pages");
    check(nodes_[static_cast<size_t>(child->page)] == child.get(), "the tree knows where its pages are");
    const bool is_listed = leaves_.contains({child->last_used, child.get()});
    check(is_listed == child->children.empty(), "the leaves are listed");
    const bool has_snapshot = snapshots_.contains({child->snapshot_used, child.get()});
    check(has_snapshot == (child->snapshot >= 0), "the snapshots are listed");
    check(!has_snapshot || slots_->n_holders(child->snapshot) > 0, "the tree holds its snapshots");
    check(child->depth == node.depth + 1, "a node knows its depth");
    check(!has_keys() || child->key == next_key(node.key, edge), "a node knows its key");
    check(!child->is_worth_keeping || node.is_worth_keeping || node.page < 0,
          "what is kept is kept from its beginning");
    check((child->keep_turn > 0) == to_keep_.contains(child->keep_turn), "what is to be kept is listed");
    n += 1 + check_subtree(*child);
  }
  return n;
}

void RadixTree::check_integrity() const {
  int64_t n = 0;
  for (const auto& [salt, node] : roots_) n += check_subtree(node);
  check(n == n_pages_, "the pages of the tree are counted");
  for (const auto& [last_used, leaf] : leaves_)
    check(leaf->last_used == last_used, "leaves are listed by their last use");
  for (const auto& [last_used, node] : snapshots_)
    check(node->snapshot_used == last_used && node->snapshot >= 0, "snapshots are listed by their last use");
}

}  // namespace millrace
