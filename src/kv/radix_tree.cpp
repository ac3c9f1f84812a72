#include "kv/radix_tree.h"

#include <utility>

#include "base/error.h"

namespace millrace {

RadixTree::RadixTree(PagePool& pool, int64_t page_size, SlotPool* slots)
    : pool_(pool), page_size_(static_cast<size_t>(page_size)), slots_(slots) {}

RadixTree::~RadixTree() {
  while (evict_one()) {
  }
}

RadixTree::Node& RadixTree::root(int32_t salt) { return roots_[salt]; }

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
  snapshots_.erase({node.snapshot_used, &node});
  slots_->release(std::exchange(node.snapshot, -1));
}

RadixTree::Node* RadixTree::child_of(Node& node, std::span<const int32_t> tokens) const {
  if (tokens.size() < page_size_) return nullptr;
  const auto child =
      node.children.find({tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(page_size_)});
  return child == node.children.end() ? nullptr : child->second.get();
}

RadixTree::Prefix RadixTree::match_snapshot(int32_t salt, std::span<const int32_t> tokens) {
  Prefix prefix;
  Node* last = nullptr;
  size_t n_pages = 0;
  Node* node = &root(salt);
  for (size_t depth = 1; (node = child_of(*node, tokens)) != nullptr; ++depth) {
    tokens = tokens.subspan(page_size_);
    prefix.pages.push_back(node->page);
    if (node->snapshot < 0) continue;
    last = node;
    n_pages = depth;
  }
  prefix.pages.resize(n_pages);
  if (last == nullptr) return prefix;
  touch_snapshot(*last);
  prefix.snapshot = last->snapshot;
  slots_->hold(prefix.snapshot);
  for (const Page page : prefix.pages) pool_.hold(page);
  for (; last->page >= 0; last = last->parent) touch(*last);
  return prefix;
}

void RadixTree::add_snapshot(int32_t salt, std::span<const int32_t> tokens, Slot slot) {
  Node* node = &root(salt);
  for (; !tokens.empty(); tokens = tokens.subspan(page_size_)) {
    node = child_of(*node, tokens);
    check(node != nullptr, "a snapshot is of a known beginning");
  }
  check(node->page >= 0, "a snapshot is of some tokens");
  if (node->snapshot < 0) {
    node->snapshot = slot;
    slots_->hold(slot);
  }
  touch_snapshot(*node);
}

bool RadixTree::evict_snapshot() {
  for (const auto& [last_used, node] : snapshots_) {
    if (slots_->n_holders(node->snapshot) > 1) continue;
    drop_snapshot(*node);
    return true;
  }
  return false;
}

std::vector<Page> RadixTree::match(int32_t salt, std::span<const int32_t> tokens) {
  std::vector<Page> pages;
  Node* node = &root(salt);
  for (; (node = child_of(*node, tokens)) != nullptr; tokens = tokens.subspan(page_size_)) {
    touch(*node);
    pool_.hold(node->page);
    pages.push_back(node->page);
  }
  return pages;
}

void RadixTree::insert(int32_t salt, std::span<const int32_t> tokens, std::span<Page> pages) {
  check(tokens.size() >= pages.size() * page_size_, "a page in the tree is full");
  Node* node = &root(salt);
  for (Page& page : pages) {
    auto [child, is_new] =
        node->children.try_emplace({tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(page_size_)});
    tokens = tokens.subspan(page_size_);
    if (is_new) {
      leaves_.erase({node->last_used, node});
      child->second = std::make_unique<Node>(Node{.parent = node, .edge = &child->first, .page = page});
      pool_.hold(page);
      ++n_pages_;
    }
    node = child->second.get();
    if (node->page != page) {
      pool_.hold(node->page);
      pool_.release(std::exchange(page, node->page));
    }
    touch(*node);
  }
}

bool RadixTree::evict_one() {
  for (const auto& [last_used, leaf] : leaves_) {
    if (pool_.n_holders(leaf->page) > 1) continue;
    Node* node = leaf;
    Node* parent = node->parent;
    leaves_.erase({last_used, node});
    drop_snapshot(*node);
    pool_.release(node->page);
    --n_pages_;
    parent->children.erase(*node->edge);
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
    const bool is_listed = leaves_.contains({child->last_used, child.get()});
    check(is_listed == child->children.empty(), "the leaves are listed");
    const bool has_snapshot = snapshots_.contains({child->snapshot_used, child.get()});
    check(has_snapshot == (child->snapshot >= 0), "the snapshots are listed");
    check(!has_snapshot || slots_->n_holders(child->snapshot) > 0, "the tree holds its snapshots");
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
