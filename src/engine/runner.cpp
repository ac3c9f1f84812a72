#include "engine/runner.h"

#include <algorithm>
#include <bit>

#include "backend/token_weights.h"
#include "backend/tools/null_backend.h"
#include "backend/tools/op_recorder.h"
#include "base/error.h"
#include "engine/memory.h"
#include "model/dry_run.h"

namespace millrace {
namespace {

constexpr size_t kNumbersALine = 16;  // where the next numbers of a step begin

// Caches without memory, for shapes only.
SequenceMemory::Shape without_memory(SequenceMemory::Shape shape) {
  shape.kv.n_pages = shape.kv.n_panes = 0;
  shape.states.n_slots = 0;
  return shape;
}

Findings take_findings(Arena& arena, int64_t n_rows, int64_t n_top) {
  return {.tokens = arena.take(Dtype::i32, {n_rows, n_top}),
          .top = arena.take(Dtype::f32, {n_rows, n_top}),
          .drawn = arena.take(Dtype::i32, {n_rows}),
          .sums = arena.take(Dtype::i32, {n_rows, 2})};
}

int64_t findings_bytes(const BatchLimits& limits) {
  Arena arena;
  take_findings(arena, limits.max_logit_rows, kShortlist);
  return static_cast<int64_t>(arena.peak_bytes());
}

// Of all that is placed() in a step.
int64_t placed_bytes(const BatchLimits& limits) {
  constexpr int64_t kOfRows = 4, kOfSequences = 4, kOfPages = 2, kOfLogits = 9;
  const int64_t n = kOfRows * limits.max_rows + kOfSequences * (limits.max_sequences + 1) +
                    kOfPages * limits.max_sequences * limits.max_pages + kOfLogits * limits.max_logit_rows;
  constexpr int64_t kTensors = kOfRows + kOfSequences + kOfPages + kOfLogits;
  return (n + kTensors * static_cast<int64_t>(kNumbersALine)) * static_cast<int64_t>(sizeof(int32_t));
}

// A step of at most so many rows, with all else as wide as it may be. Returns the bytes of activations.
int64_t run_dry_step(const Model& model, const RunnerShape& shape, int64_t n_rows, Backend& backend) {
  const BatchLimits& limits = shape.limits;
  Arena arena;
  const SequenceMemory none(without_memory(shape.memory));
  run_dry(model, backend, arena, none.kv, none.states,
          {.n_rows = n_rows,
           .n_sequences = std::min(n_rows, limits.max_sequences),
           .n_logit_rows = std::min(n_rows, limits.max_logit_rows),
           .n_pages = limits.max_pages,
           .wants_scores = limits.pooling == Pooling::rank});
  return static_cast<int64_t>(arena.peak_bytes());
}

int64_t arena_bytes_of(const Model& model, const RunnerShape& shape) {
  NullBackend backend;
  return run_dry_step(model, shape, shape.limits.max_rows, backend);
}

// Of narrow steps too: where a step does not fill a device by itself its work is divided further, and what
// the parts give takes room.
std::vector<Op> ops_of_steps(const Model& model, const RunnerShape& shape) {
  const BatchLimits& limits = shape.limits;
  OpRecorder recorder;
  for (int64_t n_rows = 1; n_rows < limits.max_rows; n_rows *= 2)
    run_dry_step(model, shape, n_rows, recorder);
  run_dry_step(model, shape, limits.max_rows, recorder);
  if (model.shape().gives_embeddings()) return std::move(recorder.ops);
  Arena arena;
  const int64_t n_rows = limits.max_logit_rows;
  const Findings at = take_findings(arena, n_rows, kShortlist);
  const Tensor logits = arena.take(Dtype::f32, {n_rows, model.shape().n_vocab});
  recorder.run(TopLogits{.logits = logits, .tokens = at.tokens, .top = at.top});
  recorder.run(DrawTokens{.logits = logits,
                          .top_tokens = at.tokens,
                          .top = at.top,
                          .temperatures = arena.take(Dtype::f32, {n_rows}),
                          .truncations = arena.take(Dtype::f32, {n_rows, 3}),
                          .uniforms = arena.take(Dtype::i32, {n_rows, 2}),
                          .tokens = at.drawn,
                          .sums = at.sums});
  return std::move(recorder.ops);
}

// What the widest step takes: Runner::step_bytes, and what that is made of.
struct StepNeed {
  StepNeed(const Model& model, const RunnerShape& shape, Backend* backend)
      : arena_bytes(arena_bytes_of(model, shape)),
        n_bytes(arena_bytes + placed_bytes(shape.limits) + findings_bytes(shape.limits)) {
    if (backend == nullptr || backend->memory().is_of_program()) return;
    ops = ops_of_steps(model, shape);
    n_bytes += backend->scratch_bytes(ops);
  }

  int64_t arena_bytes;
  int64_t n_bytes;
  std::vector<Op> ops;  // that take room of the backend's; none where that is the program's
};

// Memory is only taken when it is touched: without this, too much would be noticed when it is too late.
void expect_room(int64_t step_bytes, const SequenceMemory::Shape& whole, Memory& where) {
  for (Memory* part : where.parts()) {
    const bool is_of_program = part->is_of_program();  // else the pages are taken already
    need_memory({.kv_bytes = is_of_program ? whole.kv_bytes(where, *part) : 0,
                 .state_bytes = is_of_program ? whole.state_bytes(where, *part) : 0,
                 .arena_bytes = step_bytes * where.n_copies(*part),
                 .n_positions = whole.kv.n_pages * whole.kv.page_size,
                 .page_size = whole.kv.page_size,
                 .n_slots = whole.states.n_slots,
                 .is_of_program = is_of_program},
                available_memory_bytes(*part));
  }
}

int64_t most_pages(std::span<const PlannedRows> rows) {
  int64_t n_pages = 1;
  for (const PlannedRows& planned : rows) n_pages = std::max(n_pages, std::ssize(planned.sequence->pages));
  return n_pages;
}

}  // namespace

Runner::Runner(const Model& model, Backend& backend, const SequenceMemory& memory, const BatchLimits& limits)
    : model_(model), backend_(backend), memory_(memory), limits_(limits), recorded_(backend) {
  const RunnerShape shape{{memory.kv.shape(), memory.states.shape(), memory.has_spare}, limits};
  Memory& where = backend.memory();
  const StepNeed need(model, shape, &backend);
  expect_room(need.n_bytes, shape.memory, where);
  arena_memory_ = Buffer(static_cast<size_t>(need.arena_bytes), where);
  numbers_memory_ = Buffer(static_cast<size_t>(placed_bytes(limits)), where);
  found_memory_ = Buffer(static_cast<size_t>(findings_bytes(limits)), where);
  for (std::unique_ptr<Transfer>& transfer : transfers_)
    transfer = where.transfer(numbers_memory_.n_bytes() + found_memory_.n_bytes());
  if (!need.ops.empty()) backend.prepare(need.ops);
}

SequenceMemory::Shape SequenceMemory::Shape::of_layers(
    const std::function<bool(int64_t layer)>& is_wanted) const {
  Shape part = *this;
  const auto keep = [&](auto& layers) {
    int64_t i = 0;
    std::erase_if(layers, [&](const auto&) { return !is_wanted(i++); });
  };
  keep(part.kv.layers);
  keep(part.states.layers);
  return part;
}

SequenceMemory::Shape SequenceMemory::Shape::with_spare() const {
  Shape more = *this;
  more.has_spare = true;
  for (int64_t* n : {&more.kv.n_pages, &more.kv.n_panes, &more.states.n_slots}) *n += *n > 0 ? 1 : 0;
  return more;
}

int64_t Runner::step_bytes(const Model& model, const RunnerShape& shape, Backend* backend) {
  return StepNeed(model, shape, backend).n_bytes;
}

std::vector<Pool> pools_of(const PlannedRows& rows, int32_t first_row, Pooling pooling) {
  const auto end_row = static_cast<int32_t>(first_row + rows.end - rows.begin);
  std::vector<Pool> pools;
  switch (pooling) {
    case Pooling::none:
      for (int32_t row = first_row; row < end_row; ++row) pools.push_back({row, row + 1});
      break;
    case Pooling::mean:
      pools.push_back({first_row, end_row});
      break;
    case Pooling::cls:
    case Pooling::rank:
      pools.push_back({first_row, first_row + 1});
      break;
    case Pooling::last:
      if (rows.wants_logits()) pools.push_back({end_row - 1, end_row});
      break;
  }
  return pools;
}

Runner::Wanted Runner::wanted_of(std::span<const PlannedRows> rows) const {
  Wanted wanted;
  int32_t first_row = 0;
  for (const PlannedRows& planned : rows) {
    const auto end_row = static_cast<int32_t>(first_row + planned.end - planned.begin);
    if (model_.shape().gives_embeddings()) {
      for (const Pool& pool : pools_of(planned, first_row, limits_.pooling)) {
        wanted.pool_begin.push_back(pool.begin);
        wanted.pool_end.push_back(pool.end);
      }
    } else {
      for (int64_t n_left = planned.end - planned.logits_begin(); n_left > 0; --n_left)
        wanted.logit_rows.push_back(static_cast<int32_t>(end_row - n_left));
    }
    first_row = end_row;
  }
  return wanted;
}

Tensor Runner::run(std::span<const PlannedRows> rows, std::span<const Pane> panes) {
  return readable(begin(rows, panes, {}).logits);
}

Runner::Step Runner::begin(std::span<const PlannedRows> rows, std::span<const Pane> panes,
                           std::span<const ShortlistWish> wishes) {
  return forward(rows, panes, wanted_of(rows), wishes);
}

Tensor Runner::run_all_logits(const PlannedRows& rows, std::span<const Pane> panes) {
  check(!model_.shape().gives_embeddings(), "a model that gives logits");
  Wanted wanted;
  for (int64_t i = 0; i < rows.end - rows.begin; ++i) wanted.logit_rows.push_back(static_cast<int32_t>(i));
  return readable(forward({&rows, 1}, panes, wanted).logits);
}

Runner::Step Runner::forward(std::span<const PlannedRows> rows, std::span<const Pane> panes, Wanted wanted,
                             std::span<const ShortlistWish> wishes) {
  ++n_begun_;
  transfer().wait();  // for a step that has failed since it was begun
  const std::optional<StepShape> shape = recorded_shape(rows);
  const int64_t n_wanted = std::ssize(wanted.logit_rows);
  fill(rows, panes, static_cast<size_t>(shape ? shape->n_pages : most_pages(rows)));
  if (shape) fill_up(*shape, wanted);
  check(static_cast<int64_t>(tokens_.size()) <= limits_.max_rows, "a step within the row budget");
  const int64_t n_seqs = std::ssize(rope_tables_);
  const int64_t max_pages = static_cast<int64_t>(page_tables_.size()) / n_seqs;
  const Batch batch{.tokens = placed(tokens_),
                    .positions = placed(positions_),
                    .seq_of_row = placed(seq_of_row_),
                    .row_begin = placed(row_begin_),
                    .page_tables = placed(page_tables_).reshaped({n_seqs, max_pages}),
                    .rope_tables = placed(rope_tables_),
                    .state_from = placed(state_from_),
                    .state_to = placed(state_to_),
                    .logit_rows = placed(wanted.logit_rows),
                    .pane_tables = placed(pane_tables_).reshaped({n_seqs, max_pages}),
                    .pool_begin = placed(wanted.pool_begin),
                    .pool_end = placed(wanted.pool_end),
                    .token_types = placed(token_types_)};
  const Draws draws = placed(wishes);
  write_numbers();
  if (std::ranges::any_of(tokens_, [](int32_t token) { return token < 0; }))
    backend_.run(FeedTokens{.top = found_.tokens, .drawn = found_.drawn, .tokens = batch.tokens});
  const auto run = [&] {
    Arena arena(arena_memory_.data(), arena_memory_.n_bytes());
    return model_.forward({.backend = backend_,
                           .arena = arena,
                           .batch = batch,
                           .kv = memory_.kv,
                           .states = memory_.states,
                           .wants_scores = limits_.pooling == Pooling::rank});
  };
  Step step;
  step.logits = shape ? recorded_.run(*shape, run).slice(0, n_wanted) : run();
  step.wishes_.assign(wishes.begin(), wishes.end());
  step.found_ = found_ = find_out(step.logits, wishes, draws);
  step.transfer_ = &transfer();
  return step;
}

std::optional<StepShape> Runner::recorded_shape(std::span<const PlannedRows> rows) const {
  const bool is_of_single_rows = std::ranges::all_of(
      rows, [](const PlannedRows& each) { return each.end - each.begin == 1 && each.wants_logits(); });
  if (!backend_.can_record() || model_.shape().gives_embeddings() || !is_of_single_rows) return std::nullopt;
  const StepShape step{std::ssize(rows), most_pages(rows)};
  const int64_t most_rows = memory_.has_spare
                                ? std::min({limits_.max_rows, limits_.max_sequences, limits_.max_logit_rows})
                                : step.n_rows;
  return StepShape::holding(step, {most_rows, limits_.max_pages});
}

void Runner::fill_up(const StepShape& shape, Wanted& wanted) {
  for (auto row = static_cast<int32_t>(tokens_.size()); row < shape.n_rows; ++row) {
    for (std::vector<int32_t>* numbers : {&tokens_, &positions_, &token_types_, &rope_tables_})
      numbers->push_back(0);
    seq_of_row_.push_back(row);
    row_begin_.push_back(row + 1);
    state_from_.push_back(-1);
    state_to_.push_back(static_cast<Slot>(memory_.n_slots()));
    wanted.logit_rows.push_back(row);
    const auto first_page = static_cast<size_t>(row * shape.n_pages);
    page_tables_.resize(first_page + static_cast<size_t>(shape.n_pages), -1);
    pane_tables_.resize(page_tables_.size(), -1);
    page_tables_[first_page] = static_cast<Page>(memory_.n_pages());
    pane_tables_[first_page] = static_cast<Pane>(memory_.n_panes());
  }
}

Tensor Runner::placed(std::span<const int32_t> numbers) {
  const size_t begin = n_numbers_ * sizeof(int32_t);
  n_numbers_ += (numbers.size() + kNumbersALine - 1) / kNumbersALine * kNumbersALine;
  check(n_numbers_ * sizeof(int32_t) <= numbers_memory_.n_bytes(), "a step within its limits");
  std::ranges::copy(std::as_bytes(numbers), transfer().room().subspan(begin).begin());
  return {numbers_memory_.data() + begin, Dtype::i32, {std::ssize(numbers)}};
}

void Runner::write_numbers() {
  transfer().write(numbers_memory_.data(), transfer().room().first(n_numbers_ * sizeof(int32_t)));
}

Tensor Runner::readable(Tensor logits) {
  logits.data = reinterpret_cast<std::byte*>(read(logits, 0, logits.dim(0)).data());
  return logits;
}

std::span<float> Runner::read(const Tensor& logits, int64_t begin, int64_t end) {
  const Tensor rows = logits.slice(begin, end);
  const auto n = static_cast<size_t>(rows.n_elems());
  Memory& memory = backend_.memory();
  if (memory.is_of_program()) return {rows.f32(), n};
  read_back_.resize(n);
  memory.read(rows.data, std::as_writable_bytes(std::span(read_back_)));
  return read_back_;
}

Runner::Draws Runner::placed(std::span<const ShortlistWish> wishes) {
  std::vector<int32_t> temperatures, truncations, uniforms(2 * wishes.size());
  for (const ShortlistWish& wish : wishes) {
    write_halves(wish.uniform, uniforms.data() + 2 * temperatures.size());
    temperatures.push_back(std::bit_cast<int32_t>(wish.temperature));
    for (const float number : numbers_of(wish.truncation))
      truncations.push_back(std::bit_cast<int32_t>(number));
  }
  const int64_t n = std::ssize(wishes);
  Draws draws{.temperatures = placed(temperatures),
              .truncations = placed(truncations).reshaped({n, 3}),
              .uniforms = placed(uniforms).reshaped({n, 2})};
  draws.temperatures.dtype = draws.truncations.dtype = Dtype::f32;
  return draws;
}

Findings Runner::find_out(const Tensor& logits, std::span<const ShortlistWish> wishes, const Draws& draws) {
  int64_t n_top = 0;
  bool has_draws = false;
  for (const ShortlistWish& wish : wishes) {
    n_top = std::max(n_top, wish.n_top);
    has_draws |= wish.temperature > 0.0f;
  }
  Findings found;
  size_t n_bytes = 0;
  if (n_top > 0) {
    Arena arena(found_memory_.data(), found_memory_.n_bytes());
    found = take_findings(arena, std::ssize(wishes), n_top);
    backend_.run(TopLogits{.logits = logits, .tokens = found.tokens, .top = found.top});
    if (has_draws) {
      backend_.run(DrawTokens{.logits = logits,
                              .top_tokens = found.tokens,
                              .top = found.top,
                              .temperatures = draws.temperatures,
                              .truncations = draws.truncations,
                              .uniforms = draws.uniforms,
                              .tokens = found.drawn,
                              .sums = found.sums});
    } else {
      found.drawn = found.sums = {};
    }
    const Tensor& last = has_draws ? found.sums : found.top;
    n_bytes = static_cast<size_t>(last.data + last.n_bytes() - found_memory_.data());
  }
  // Of nothing, too: the step is waited for by it.
  transfer().read(found_memory_.data(), transfer().room().subspan(numbers_memory_.n_bytes(), n_bytes));
  return found;
}

std::vector<Shortlist> Runner::shortlists(const Step& step) const {
  step.transfer_->wait();
  const auto& [tokens, top, drawn, sums] = step.found_;
  std::vector<Shortlist> lists(step.wishes_.size());
  if (!tokens) return lists;
  const std::byte* const read = step.transfer_->room().data() + numbers_memory_.n_bytes();
  const auto element = [&](const Tensor& tensor, size_t i) {
    return read + (tensor.data - found_memory_.data()) + i * sizeof(int32_t);
  };
  for (size_t row = 0; row < lists.size(); ++row) {
    const size_t first = row * static_cast<size_t>(tokens.dim(1));
    const auto n = static_cast<size_t>(step.wishes_[row].n_top);
    lists[row].tokens = {reinterpret_cast<const int32_t*>(element(tokens, first)), n};
    lists[row].logits = {reinterpret_cast<const float*>(element(top, first)), n};
    if (!drawn) continue;
    lists[row].drawn = *reinterpret_cast<const int32_t*>(element(drawn, row));
    lists[row].sum = double_of_halves(reinterpret_cast<const int32_t*>(element(sums, 2 * row)));
  }
  return lists;
}

void Runner::fill(std::span<const PlannedRows> rows, std::span<const Pane> panes, size_t n_pages) {
  n_numbers_ = 0;
  tokens_.clear();
  positions_.clear();
  seq_of_row_.clear();
  rope_tables_.clear();
  state_from_.clear();
  state_to_.clear();
  token_types_.clear();
  row_begin_.assign(1, 0);
  page_tables_.assign(rows.size() * n_pages, -1);
  for (size_t s = 0; s < rows.size(); ++s) {
    const Sequence& sequence = *rows[s].sequence;
    for (int64_t position = rows[s].begin; position < rows[s].end; ++position) {
      tokens_.push_back(sequence.tokens[static_cast<size_t>(position)]);
      positions_.push_back(static_cast<int32_t>(position));
      seq_of_row_.push_back(static_cast<int32_t>(s));
      const bool has_types = !sequence.token_types.empty();
      token_types_.push_back(has_types ? sequence.token_types[static_cast<size_t>(position)] : 0);
    }
    row_begin_.push_back(static_cast<int32_t>(tokens_.size()));
    rope_tables_.push_back(sequence.rope_table);
    state_from_.push_back(rows[s].state_from);
    state_to_.push_back(rows[s].state_to);
    check(sequence.pages.size() <= n_pages, "a sequence within the limits of its runner");
    std::ranges::copy(sequence.pages, page_tables_.begin() + static_cast<ptrdiff_t>(s * n_pages));
  }
  pane_tables_ = page_tables_;
  if (panes.empty()) return;
  for (int32_t& number : pane_tables_) number = number < 0 ? -1 : panes[static_cast<size_t>(number)];
}

}  // namespace millrace
