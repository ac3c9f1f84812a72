// Which two neighbouring symbols of BPE may become one, and how early: (left, right) to (rank, new symbol).
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "text/tokenizers/hash.h"

namespace millrace {

class MergeTable {
 public:
  // A rank in the upper and a symbol in the lower half: of two, the smaller merges first.
  using Merge = uint64_t;
  static constexpr Merge kNone = ~uint64_t{0};
  static Merge merge_of(uint32_t rank, int32_t symbol) {
    return uint64_t{rank} << 32 | static_cast<uint32_t>(symbol);
  }
  static uint32_t rank_of(Merge merge) { return static_cast<uint32_t>(merge >> 32); }
  static int32_t symbol_of(Merge merge) { return static_cast<int32_t>(merge); }

  explicit MergeTable(size_t n_expected = 0)
      : slots_(std::bit_ceil(n_expected + n_expected / 2 + 16)),
        mask_(slots_.size() - 1),
        seed_(hash_seed()) {}

  // Of equal pairs the first one stays. At most n_expected may be put in.
  void insert(int32_t left, int32_t right, uint32_t rank, int32_t symbol) {
    uint64_t at = place(left, right);
    for (; slots_[at].merge != kNone; at = (at + 1) & mask_) {
      if (slots_[at].left == left && slots_[at].right == right) return;
    }
    slots_[at] = {left, right, merge_of(rank, symbol)};
  }

  Merge find(int32_t left, int32_t right) const {
    uint64_t at = place(left, right);
    for (; slots_[at].merge != kNone; at = (at + 1) & mask_) {
      if (slots_[at].left == left && slots_[at].right == right) return slots_[at].merge;
    }
    return kNone;
  }

 private:
  struct Slot {
    int32_t left = -1, right = -1;
    Merge merge = kNone;
  };
  uint64_t place(int32_t left, int32_t right) const {
    return hash_pair(static_cast<uint32_t>(left), static_cast<uint32_t>(right), seed_) & mask_;
  }
  std::vector<Slot> slots_;
  uint64_t mask_;
  uint64_t seed_;
};

}  // namespace millrace
