#include "kv/radix_tree.h"

#include <utility>

#include "base/error.h"

namespace millrace {

RadixTree::RadixTree(PagePool& pool, int64_t page_size)
    : pool_(pool), page_size_(static_cast<size_t>(page_size)) {}

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

std::vector<Page> RadixTree::match(int32_t salt, std::span<const int32_t> tokens) {
  std::vector<Page> pages;
  Node* node = &root(salt);
  for (; tokens.size() >= page_size_; tokens = tokens.subspan(page_size_)) {
    const auto child =
        node->children.find({tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(page_size_)});
    if (child == node->children.end()) break;
    node = child->second.get();
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
}

}  // namespace millrace
