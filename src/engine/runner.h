// Runs planned rows: fills a batch, calls the model, hands out the logits.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/recorded_steps.h"
#include "engine/scheduler.h"
#include "engine/shortlist.h"
#include "model/model.h"

namespace millrace {

// What bounds every batch of a runner.
struct BatchLimits {
  int64_t max_rows;
  int64_t max_sequences;
  int64_t max_logit_rows;           // or pools, of a model that gives embeddings
  int64_t max_pages;                // of one sequence
  Pooling pooling = Pooling::none;  // of such a model
};

// What sequences leave behind in a model's layers: pages for each position, a slot for the whole.
struct SequenceMemory {
  struct Shape {
    KvCache::Shape kv;
    StateCache::Shape states;
    bool has_spare = false;  // the last page, pane and slot are of no sequence

    // With those besides: for rows that fill a recorded step up.
    Shape with_spare() const;
    int64_t kv_bytes() const { return KvCache::n_bytes(kv); }
    int64_t state_bytes() const { return StateCache::n_bytes(states); }
    // What of that lies in a part of `memory`, where it is allocated there.
    int64_t kv_bytes(Memory& memory, const Memory& part) const { return KvCache::n_bytes(kv, memory, part); }
    int64_t state_bytes(Memory& memory, const Memory& part) const {
      return StateCache::n_bytes(states, memory, part);
    }
    // The same of some layers alone.
    Shape of_layers(const std::function<bool(int64_t layer)>& is_wanted) const;
  };

  // `where` must outlive it.
  explicit SequenceMemory(const Shape& shape, Memory& where = program_memory())
      : kv(shape.kv, where), states(shape.states, where), has_spare(shape.has_spare) {}

  // What sequences have of it.
  int64_t n_pages() const { return kv.shape().n_pages - n_spare(kv.shape().n_pages); }
  int64_t n_panes() const { return kv.shape().n_panes - n_spare(kv.shape().n_panes); }
  int64_t n_slots() const { return states.shape().n_slots - n_spare(states.shape().n_slots); }

  KvCache kv;
  StateCache states;
  bool has_spare;

 private:
  int64_t n_spare(int64_t n) const { return has_spare && n > 0 ? 1 : 0; }
};

// Rows of a step that one embedding is made of: [begin, end).
struct Pool {
  int32_t begin, end;
};
// Those of the sequence whose planned rows are the rows of the step from `first_row` on.
std::vector<Pool> pools_of(const PlannedRows& rows, int32_t first_row, Pooling pooling);

// All that the memory of a runner and of its sequences follows from.
struct RunnerShape {
  SequenceMemory::Shape memory;
  BatchLimits limits;
};

// In the place of a token: the one that the step before draws of a row of its logits
// (ShortlistWish::is_draw).
constexpr int32_t token_of_row(int64_t logits_row) { return ~static_cast<int32_t>(logits_row); }

// What a step finds out of rows of logits, where the backend computes.
struct Findings {
  Tensor tokens, top;  // as TopLogits gives them; nothing where nothing was wished
  Tensor drawn, sums;  // as DrawTokens gives them; likewise
};

class Runner {
 public:
  // Everything is allocated here, in the backend's memory; `model`, `backend` and `memory` must outlive the
  // runner. Throws Error(does_not_fit) with the numbers where a step and `memory` exceed the memory there is.
  Runner(const Model& model, Backend& backend, const SequenceMemory& memory, const BatchLimits& limits);

  // Computes the rows. Returns the logits, float32 (n, n_vocab), valid until the next run: those of
  // [logits_begin(), end) of each planned sequence, in the order of the plan. Of a model that gives
  // embeddings: those of pools_of() each planned sequence. `panes`: of each page; empty: the
  // one of its own number.
  Tensor run(std::span<const PlannedRows> rows, std::span<const Pane> panes = {});
  // The same, begun: the backend may still compute it. `wishes`: of each row of logits, or of none. Of all
  // steps the last two are known here.
  class Step {
   public:
    Tensor logits;  // for read() alone

   private:
    friend Runner;
    std::vector<ShortlistWish> wishes_;
    Findings found_{};
    Transfer* transfer_ = nullptr;
  };
  Step begin(std::span<const PlannedRows> rows, std::span<const Pane> panes,
             std::span<const ShortlistWish> wishes);
  // What was wished. Waits for the step, and for nothing that was begun after it.
  std::vector<Shortlist> shortlists(const Step& step) const;
  // Rows [begin, end) of the logits of the last step, which the caller may overwrite; valid until the next
  // call.
  std::span<float> read(const Tensor& logits, int64_t begin, int64_t end);
  // The same with the logits of every row, at most limits.max_logit_rows.
  Tensor run_all_logits(const PlannedRows& rows, std::span<const Pane> panes = {});

  // Bytes that the widest step takes: activations, exactly; its numbers and shortlists beside them; and what
  // its ops take of `backend` besides, where that is known. Allocates next to nothing.
  static int64_t step_bytes(const Model& model, const RunnerShape& shape, Backend* backend = nullptr);

 private:
  // Rows of the step that something comes of.
  struct Wanted {
    std::vector<int32_t> logit_rows;
    std::vector<int32_t> pool_begin, pool_end;
  };
  // How tokens are drawn of logits.
  struct Draws {
    Tensor temperatures, truncations, uniforms;  // as in DrawTokens
  };
  Wanted wanted_of(std::span<const PlannedRows> rows) const;
  Step forward(std::span<const PlannedRows> rows, std::span<const Pane> panes, Wanted wanted,
               std::span<const ShortlistWish> wishes = {});
  Findings find_out(const Tensor& logits, std::span<const ShortlistWish> wishes, const Draws& draws);
  // The shape to record it by, where the backend records steps and the rows are such a step's.
  std::optional<StepShape> recorded_shape(std::span<const PlannedRows> rows) const;
  // With so many pages in each table.
  void fill(std::span<const PlannedRows> rows, std::span<const Pane> panes, size_t n_pages);
  // Makes the step one of that shape: the rows more than it has are beginnings, all the same ones, on the
  // page and the slot that no sequence has. Nobody reads what they give.
  void fill_up(const StepShape& shape, Wanted& wanted);
  Draws placed(std::span<const ShortlistWish> wishes);
  // A tensor of them where the backend computes: there once write_numbers() has been called.
  Tensor placed(std::span<const int32_t> numbers);
  void write_numbers();
  Transfer& transfer() const { return *transfers_[static_cast<size_t>(n_begun_ % 2)]; }
  // The same in the program's memory.
  Tensor readable(Tensor logits);

  const Model& model_;
  Backend& backend_;
  const SequenceMemory& memory_;
  BatchLimits limits_;
  Buffer arena_memory_, numbers_memory_, found_memory_;
  // Of each step one in turn, with the room of its numbers and, behind them, of what is found out.
  std::unique_ptr<Transfer> transfers_[2];
  int64_t n_begun_ = 0;   // steps
  size_t n_numbers_ = 0;  // of the last one
  Findings found_{};      // likewise
  RecordedSteps recorded_;
  std::vector<float> read_back_;  // what the step gave, where the program cannot look at it
  std::vector<int32_t> tokens_, positions_, seq_of_row_, row_begin_, page_tables_, pane_tables_, rope_tables_,
      state_from_, state_to_, token_types_;
};

}  // namespace millrace
