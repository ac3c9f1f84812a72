// What is drawn by logits: a task for each part of a row, then one that joins the parts.
#include <algorithm>
#include <bit>
#include <limits>

#include "backend/cpu/compute.h"
#include "backend/feed_tokens.h"
#include "backend/token_truncation.h"

namespace millrace::cpu {
namespace {

constexpr int64_t kPart = 16 * kWeightBlock;  // some microseconds

// Integers in the order of the floats. NaN lie beyond the infinities, on either side.
constexpr int32_t key_of(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

struct KeyRange {
  int32_t least = std::numeric_limits<int32_t>::max(), most = std::numeric_limits<int32_t>::min();

  bool is_sound() const { return least >= key_of(-__builtin_inff()) && most < key_of(__builtin_inff()); }
};

KeyRange range_of(const float* x, int64_t n) {
  KeyRange range;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t key = key_of(x[i]);
    range.least = key < range.least ? key : range.least;
    range.most = key > range.most ? key : range.most;
  }
  return range;
}

struct TopEntry {
  float logit;
  int32_t token;
};

bool is_larger(const TopEntry& a, const TopEntry& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

struct TopParts {
  TopParts(Carver& carver, int64_t n_parts, int64_t n_top)
      : entries(carver.take<TopEntry>(n_parts * n_top)), n(carver.take<int64_t>(n_parts)) {}

  TopEntry* entries;  // (n_parts, n_top)
  int64_t* n;         // (n_parts) of them that are there; -1: the part has none
};

struct TopScratch {
  TopScratch(Carver& carver, int64_t n_room) : entries(carver.take<TopEntry>(n_room)) {}
  TopEntry* entries;
};

// The largest of a part is in the first of its blocks with the largest key.
TopEntry largest_of(const float* logits, int64_t begin, int64_t end, bool& is_sound) {
  KeyRange all;
  int64_t best = begin;
  for (int64_t block = begin; block < end; block += kWeightBlock) {
    const KeyRange range = range_of(logits + block, std::min(kWeightBlock, end - block));
    all.least = std::min(all.least, range.least);
    if (range.most > all.most) best = block, all.most = range.most;
  }
  is_sound = all.is_sound();
  if (!is_sound) return {};
  const float logit = std::bit_cast<float>(all.most ^ ((all.most >> 31) & 0x7fffffff));
  if (logit == 0.0f) best = begin;  // the zeros have two keys
  return {logit, static_cast<int32_t>(std::find(logits + best, logits + end, logit) - logits)};
}

// One pass that skips what is no better than the n-th best so far; a full buffer is cut back to n. -1 where
// the part has none.
int64_t take_top(const float* logits, int64_t begin, int64_t end, int64_t n_top, std::span<TopEntry> buffer) {
  int64_t n = 0;
  float too_low = __builtin_nanf("");  // no logit is
  const auto cut = [&] {
    if (n <= n_top) return;
    std::nth_element(buffer.begin(), buffer.begin() + n_top - 1, buffer.begin() + n, is_larger);
    n = n_top;
    too_low = buffer[static_cast<size_t>(n_top) - 1].logit;
  };
  for (int64_t i = begin; i < end; ++i) {
    if (logits[i] <= too_low) continue;
    if (!(logits[i] < __builtin_inff())) return -1;
    buffer[static_cast<size_t>(n++)] = {logits[i], static_cast<int32_t>(i)};
    if (n == std::ssize(buffer)) cut();
  }
  cut();
  return n;
}

// So many as give all threads something to do. What is found does not depend on it.
int64_t n_parts_for(const Machine& machine, int64_t n_rows, int64_t n_vocab) {
  const int64_t n_wanted = 2 * machine.pool.n_threads() / std::max<int64_t>(1, n_rows);
  return std::clamp<int64_t>(n_wanted, 1, (n_vocab + kPart - 1) / kPart);
}

}  // namespace

void compute(Machine& machine, const TopLogits& op) {
  const int64_t n_rows = op.logits.dim(0), n_vocab = op.logits.dim(1), n_top = op.top.dim(1);
  const int64_t n_parts = n_parts_for(machine, n_rows, n_vocab);
  const int64_t n_room = std::max(2 * n_top + 1024, n_parts * n_top);
  machine.scratch.reserve<TopScratch>(n_room);
  const auto parts = machine.scratch.shared<TopParts>(n_rows * n_parts, n_top);
  machine.pool.run(static_cast<int>(n_rows * n_parts), [&](int part, int thread) {
    const float* logits = op.logits.f32() + part / n_parts * n_vocab;
    const int64_t begin = part % n_parts * n_vocab / n_parts, end = (part % n_parts + 1) * n_vocab / n_parts;
    TopEntry* entries = parts.entries + part * n_top;
    if (n_top == 1) {
      bool is_sound = true;
      entries[0] = largest_of(logits, begin, end, is_sound);
      parts.n[part] = is_sound ? 1 : -1;
    } else {
      const std::span buffer(machine.scratch.of_thread<TopScratch>(thread, n_room).entries,
                             static_cast<size_t>(n_room));
      parts.n[part] = take_top(logits, begin, end, n_top, buffer);
      std::copy_n(buffer.begin(), std::max<int64_t>(0, parts.n[part]), entries);
    }
  });
  machine.pool.run(static_cast<int>(n_rows), [&](int row, int thread) {
    TopEntry* entries = machine.scratch.of_thread<TopScratch>(thread, n_room).entries;
    int64_t n = 0;
    bool is_sound = true;
    for (int64_t part = row * n_parts; part < (row + 1) * n_parts; ++part) {
      is_sound &= parts.n[part] >= 0;
      if (is_sound) n = std::copy_n(parts.entries + part * n_top, parts.n[part], entries + n) - entries;
    }
    if (is_sound) std::partial_sort(entries, entries + n_top, entries + n, is_larger);
    for (int64_t i = 0; i < n_top; ++i) {
      op.tokens.i32()[row * n_top + i] = is_sound ? entries[i].token : -1;
      op.top.f32()[row * n_top + i] = is_sound ? entries[i].logit : __builtin_inff();
    }
  });
}

namespace {

struct WeightSums {
  WeightSums(Carver& carver, int64_t n_blocks) : of_blocks(carver.take<double>(n_blocks)) {}
  double* of_blocks;
};

}  // namespace

void compute(Machine& machine, const DrawTokens& op) {
  const int64_t n_rows = op.logits.dim(0), n_vocab = op.logits.dim(1);
  const int64_t n_blocks = n_weight_blocks(n_vocab), n_parts = (n_vocab + kPart - 1) / kPart;
  const auto sums = machine.scratch.shared<WeightSums>(n_rows * n_blocks);
  const int64_t n_top = op.top.dim(1);
  const auto max_of = [&](int64_t row) { return op.top.f32()[row * n_top]; };
  const auto truncation_at = [&](int64_t row) { return truncation_of(op.truncations.f32() + 3 * row); };
  const auto is_drawn = [&](int64_t row) {
    return op.temperatures.f32()[row] > 0.0f && __builtin_isfinite(max_of(row));
  };
  const auto weigh_block = [&](int64_t row, int64_t block, float* weights) {
    const int64_t begin = block * kWeightBlock, n = std::min(kWeightBlock, n_vocab - begin);
    weigh(op.logits.f32() + row * n_vocab + begin, n, max_of(row), op.temperatures.f32()[row], weights);
    return n;
  };
  machine.pool.run(static_cast<int>(n_rows * n_parts), [&](int part, int) {
    const int64_t row = part / n_parts, first = part % n_parts * (kPart / kWeightBlock);
    if (!is_drawn(row) || !truncation_at(row).needs_sum()) return;
    float weights[kWeightBlock];
    for (int64_t block = first; block < std::min(n_blocks, first + kPart / kWeightBlock); ++block)
      sums.of_blocks[row * n_blocks + block] = sum_of_block(weights, weigh_block(row, block, weights));
  });
  const auto draw_of_all = [&](int64_t row, double sum, double uniform) {
    const double target = uniform * sum;
    const DrawEnd block = draw_end(sums.of_blocks + row * n_blocks, n_blocks, 0.0, target);
    float weights[kWeightBlock];
    const DrawEnd end = draw_end(weights, weigh_block(row, block.item, weights), block.before, target);
    return static_cast<int32_t>(block.item * kWeightBlock + end.item);
  };
  const auto draw_of_top = [&](int64_t row, double sum, double uniform) {
    const TopOfRow top{.tokens = op.top_tokens.i32() + row * n_top,
                       .logits = op.top.f32() + row * n_top,
                       .n = n_top,
                       .n_vocab = n_vocab,
                       .temperature = op.temperatures.f32()[row],
                       .sum = sum};
    Candidate candidates[TopLogits::kMost];
    const Kept kept = truncated(top, truncation_at(row), candidates);
    return token_drawn_of(candidates, kept, uniform);
  };
  machine.pool.run(static_cast<int>(n_rows), [&](int task, int) {
    const int64_t row = task;
    int32_t token = -1;
    double sum = 0.0;
    if (is_drawn(row)) {
      const Truncation truncation = truncation_at(row);
      for (int64_t block = 0; truncation.needs_sum() && block < n_blocks; ++block)
        sum += sums.of_blocks[row * n_blocks + block];
      const double uniform = double_of_halves(op.uniforms.i32() + 2 * row);
      token = truncation.keeps_all() ? draw_of_all(row, sum, uniform) : draw_of_top(row, sum, uniform);
    }
    op.tokens.i32()[row] = token;
    write_halves(sum, op.sums.i32() + 2 * row);
  });
}

void compute(Machine& /*machine*/, const FeedTokens& op) { feed_tokens(op); }

}  // namespace millrace::cpu
