// For tests: runs a model on sequences given as token ids, building batches and pages by hand. The engine's
// runner does the same in earnest.
#pragma once

#include <algorithm>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "backend/tools/null_backend.h"
#include "kv/page_pool.h"
#include "model/model.h"
#include "model/weights_of.h"
#include "tensor/buffer.h"

namespace millrace::testing {

// One sequence of a step: what is new of it, and all logits that come of that.
struct Rows {
  size_t sequence;
  std::span<const int32_t> tokens;
  std::span<const int32_t> token_types = {};  // empty: all 0
};

class Driver {
 public:
  static constexpr int64_t kPageSize = 16;

  // For `n_sequences` of at most `max_positions` each. Their pages, of `kv_type`, lie shuffled by `seed`.
  Driver(const Model& model, Backend& backend, size_t n_sequences, int64_t max_positions, unsigned seed = 1,
         Dtype kv_type = Dtype::f32)
      : model_(model),
        backend_(backend),
        n_pages_each_((max_positions + kPageSize - 1) / kPageSize),
        lengths_(n_sequences, 0),
        is_long_(n_sequences, 0),
        n_steps_(n_sequences, 0),
        pages_(n_sequences * static_cast<size_t>(n_pages_each_)),
        kv_({.layers = model.shape().kv_layers,
             .n_pages = static_cast<int64_t>(n_sequences) * n_pages_each_,
             .page_size = kPageSize,
             .dtype = kv_type,
             .n_panes = static_cast<int64_t>(n_sequences) * n_pages_each_ + 1},
            backend.memory()),
        states_({.layers = model.shape().state_layers, .n_slots = 2 * static_cast<int64_t>(n_sequences)},
                backend.memory()) {
    std::iota(pages_.begin(), pages_.end(), 0);
    std::shuffle(pages_.begin(), pages_.end(), std::mt19937(seed));
  }

  // Says how long the prompt of a sequence is: longrope chooses its table by it.
  void set_prompt_length(size_t sequence, size_t n_tokens) {
    const int64_t from = model_.shape().long_rope_from;
    is_long_[sequence] = from > 0 && static_cast<int64_t>(n_tokens) > from ? 1 : 0;
  }

  // Rows of a sequence pool into one embedding from now on, or into its scores.
  void set_pooling(Pooling pooling) { pooling_ = pooling; }

  // Appends the tokens to their sequences in one step; logits of every row: (n_rows, n_vocab). Of a model
  // that gives embeddings: (n_rows or, with a pooling, n_sequences; n_embedding or n_scores).
  std::vector<float> step(std::span<const Rows> step) {
    Ints ints = ints_of(step);
    const bool gives_embeddings = model_.shape().gives_embeddings();
    std::vector<int32_t> nothing_wanted;
    std::vector<Buffer> placed;
    const auto view = [&](const std::vector<int32_t>& values) {
      const auto bytes = std::as_bytes(std::span(values));
      placed.emplace_back(bytes.size(), backend_.memory());
      backend_.memory().write(placed.back().data(), bytes);
      return Tensor(placed.back().data(), Dtype::i32, {std::ssize(values)});
    };
    const Batch batch{.tokens = view(ints.tokens),
                      .positions = view(ints.positions),
                      .seq_of_row = view(ints.seq_of_row),
                      .row_begin = view(ints.row_begin),
                      .page_tables = view(ints.page_tables).reshaped({std::ssize(step), n_pages_each_}),
                      .rope_tables = view(ints.rope_tables),
                      .state_from = view(ints.state_from),
                      .state_to = view(ints.state_to),
                      .logit_rows = view(gives_embeddings ? nothing_wanted : ints.logit_rows),
                      .pane_tables = view(ints.pane_tables).reshaped({std::ssize(step), n_pages_each_}),
                      .pool_begin = view(ints.pool_begin),
                      .pool_end = view(ints.pool_end),
                      .token_types = view(ints.token_types)};
    Arena measuring;
    NullBackend nothing;
    const bool wants_scores = pooling_ == Pooling::rank;
    model_.forward({nothing, measuring, batch, kv_, states_, wants_scores});
    const Buffer memory(measuring.peak_bytes(), backend_.memory());
    Arena arena(memory.data(), memory.n_bytes());
    const Tensor logits = model_.forward({backend_, arena, batch, kv_, states_, wants_scores});
    check(arena.peak_bytes() == measuring.peak_bytes(), "a forward takes the memory that it measured");
    peak_bytes_ = std::max(peak_bytes_, arena.peak_bytes());
    std::vector<float> out(static_cast<size_t>(logits.n_elems()));
    backend_.memory().read(logits.data, std::as_writable_bytes(std::span(out)));
    return out;
  }

  // One sequence alone, `n_chunk` tokens a step (0: all at once).
  std::vector<float> run(size_t sequence, std::span<const int32_t> tokens, size_t n_chunk) {
    std::vector<float> logits;
    if (n_chunk == 0) n_chunk = tokens.size();
    for (size_t at = 0; at < tokens.size(); at += n_chunk) {
      const Rows rows{sequence, tokens.subspan(at, std::min(n_chunk, tokens.size() - at))};
      const std::vector<float> part = step({&rows, 1});
      logits.insert(logits.end(), part.begin(), part.end());
    }
    return logits;
  }

  // Of the pages, and of the activations of the largest step so far.
  int64_t n_bytes() const {
    return KvCache::n_bytes(kv_.shape()) + StateCache::n_bytes(states_.shape()) +
           static_cast<int64_t>(peak_bytes_);
  }

 private:
  struct Ints {
    std::vector<int32_t> tokens, positions, seq_of_row, row_begin{0}, page_tables, rope_tables, state_from,
        state_to, logit_rows, pane_tables;
    std::vector<int32_t> pool_begin, pool_end, token_types;
  };

  Ints ints_of(std::span<const Rows> step) {
    Ints ints;
    for (const Rows& rows : step) {
      // Its two slots take turns, as when snapshots are taken.
      const auto slot = static_cast<int32_t>(2 * rows.sequence);
      const int32_t turn = n_steps_[rows.sequence]++ % 2;
      ints.state_from.push_back(lengths_[rows.sequence] == 0 ? -1 : slot + 1 - turn);
      ints.state_to.push_back(slot + turn);
      for (const int32_t token : rows.tokens) {
        ints.logit_rows.push_back(static_cast<int32_t>(ints.tokens.size()));
        ints.tokens.push_back(token);
        ints.positions.push_back(lengths_[rows.sequence]++);
        ints.seq_of_row.push_back(static_cast<int32_t>(ints.rope_tables.size()));
      }
      add_pools(ints, ints.row_begin.back(), static_cast<int32_t>(ints.tokens.size()));
      for (size_t i = 0; i < rows.tokens.size(); ++i)
        ints.token_types.push_back(rows.token_types.empty() ? 0 : rows.token_types[i]);
      ints.row_begin.push_back(static_cast<int32_t>(ints.tokens.size()));
      ints.rope_tables.push_back(is_long_[rows.sequence]);
      const auto first = pages_.begin() + static_cast<int64_t>(rows.sequence) * n_pages_each_;
      const Window window{.n_positions = longest_window(kv_.shape().layers), .page_size = kPageSize};
      const int64_t first_pane =
          window.first_page(lengths_[rows.sequence] - static_cast<int64_t>(rows.tokens.size()));
      const int64_t n_used = (lengths_[rows.sequence] + kPageSize - 1) / kPageSize;
      check(n_used <= n_pages_each_, "the driver was told of enough positions");
      for (int64_t i = 0; i < n_pages_each_; ++i) {
        ints.page_tables.push_back(i < n_used ? first[i] : -1);
        // Other numbers than those of the pages.
        const auto pane = static_cast<int32_t>(std::ssize(pages_) - first[i]);
        ints.pane_tables.push_back(i < n_used && i >= first_pane ? pane : -1);
      }
    }
    return ints;
  }

  void add_pools(Ints& ints, int32_t begin, int32_t end) const {
    const auto add = [&](int32_t first, int32_t last) {
      ints.pool_begin.push_back(first);
      ints.pool_end.push_back(last);
    };
    switch (pooling_) {
      case Pooling::none:
        for (int32_t row = begin; row < end; ++row) add(row, row + 1);
        break;
      case Pooling::mean:
        add(begin, end);
        break;
      case Pooling::last:
        add(end - 1, end);
        break;
      case Pooling::cls:
      case Pooling::rank:
        add(begin, begin + 1);
        break;
    }
  }

  const Model& model_;
  Backend& backend_;
  Pooling pooling_ = Pooling::none;
  int64_t n_pages_each_;
  std::vector<int32_t> lengths_;  // positions of each sequence so far
  std::vector<int32_t> is_long_;
  std::vector<int32_t> n_steps_;  // that computed rows of the sequence
  std::vector<int32_t> pages_;    // those of sequence s: [s * n_pages_each_, (s + 1) * n_pages_each_)
  KvCache kv_;
  StateCache states_;
  size_t peak_bytes_ = 0;
};

inline int32_t argmax(std::span<const float> logits) {
  return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
}

}  // namespace millrace::testing
