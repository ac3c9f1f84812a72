#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>

#include "base/log.h"
#include "engine/cache_tier.h"
#include "engine/engine_options.h"
#include "engine/job.h"
#include "engine/memory.h"
#include "engine/rate_limit.h"
#include "engine/request_faults.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"

namespace millrace {
namespace {

// A token that the shortlist does not tell costs its answer two steps ahead. So many others must come for
// one.
constexpr int64_t kToldForOne = 16;
constexpr double kKeepShare = 0.02;  // of a step's time, in which prefixes are brought to the tier
constexpr std::chrono::milliseconds kIdleTurn{5};  // the same where there is no step
constexpr std::chrono::seconds kKeepRest{10};      // the same at the end

// How long until a place in a full queue is free: about as long as between two answers.
class FinishClock {
 public:
  using Clock = std::chrono::steady_clock;

  void note_begin() { last_ = Clock::now(); }
  void note_finish() {
    const Clock::time_point now = Clock::now();
    const double s = std::chrono::duration<double>(now - last_).count();
    mean_s_ = has_finished_ ? mean_s_ * 0.9 + s * 0.1 : s;
    has_finished_ = true;
    last_ = now;
  }
  double expected_s() const {
    const double waited_s = std::chrono::duration<double>(Clock::now() - last_).count();
    return std::max(1.0, has_finished_ ? mean_s_ : waited_s);
  }

 private:
  Clock::time_point last_ = Clock::now();
  double mean_s_ = 0.0;
  bool has_finished_ = false;
};

// A request that is not wanted any more, or one answer to it.
struct Cancelled {
  uint64_t id;
  std::optional<int> index = std::nullopt;
};

// Copies between pages of memory, at once.
class CacheMover final : public PageMover {
 public:
  explicit CacheMover(KvCache& cache) : cache_(cache) {}
  void copy_page(Page from, Page to) override { cache_.copy_page(from, to); }
  void copy_pane(Pane from, Pane to) override { cache_.copy_pane(from, to); }

 private:
  KvCache& cache_;
};

}  // namespace

// What the engine thread owns, and the two queues through which the others speak to it.
class Engine::Loop {
 public:
  Loop(const Model& model, Backend& backend, const Options& options)
      : options_(filled_in(model, options)),
        plan_(fitting_plan(model, backend, options_)),
        model_(model),
        device_(backend.memory()),
        can_run_ahead_(backend.computes_later()),
        memory_(memory_shape(model, options_, &backend), backend.memory()),
        mover_(memory_.kv),
        tier_(make_tier(model, backend, options_, memory_)),
        runner_(model, backend, memory_, batch_limits(model, options_)),
        scheduler_({.n_pages = memory_.n_pages(),
                    .page_size = options_.page_size,
                    .max_rows = options_.max_rows,
                    .max_sequences = batch_limits(model, options_).max_sequences,
                    .has_prefix_cache = options_.has_prefix_cache,
                    .n_slots = memory_.n_slots(),
                    .snapshot_distance = options_.snapshot_distance,
                    .keeps_sequences_whole = keeps_sequences_whole(model, options_),
                    .preemption = options_.preemption,
                    .n_kept_pages = std::max<int64_t>(1, options_.tier.n_kept_tokens / options_.page_size),
                    .window = longest_window(model.shape().kv_layers),
                    .n_panes = memory_.n_panes()},
                   mover_, tier_.get(), options_.prefix_listener),
        rate_limit_(options_.max_requests_per_minute),
        thread_([this] { run(); }) {}

  ~Loop() {
    {
      const std::lock_guard lock(mutex_);
      is_stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  Submitted submit(Request request);
  void cancel(Cancelled what);
  const MemoryPlan& memory() const { return plan_; }
  Stats stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  const Options& options() const { return options_; }
  std::string failure() const {
    const std::lock_guard lock(mutex_);
    return failure_;
  }

 private:
  // Why a request cannot be queued now; nothing when it can. The caller holds mutex_.
  std::optional<Submitted> refuse(const Request& request);
  void run();
  // Takes over what came in; waits for something when there is nothing to compute. False when the engine
  // stops.
  bool receive();
  void take_in(std::unique_ptr<Job> job);
  void take_away(const Cancelled& what);
  void expire();
  // Begins a step, and sees to the one before, which the backend has computed meanwhile: there the next one
  // is planned and given to it before the tokens of this one are known, as long as nobody has to know them.
  void step();
  struct Begun {
    struct Rows {
      PlannedRows planned;
      uint64_t id;                       // of the sequence, which may be gone when they are computed
      int64_t first_output, end_output;  // logits, or embeddings
      bool wants_logits;
    };
    std::vector<Rows> rows;
    std::vector<ShortlistWish> wishes;
    Runner::Step computed;
    std::chrono::steady_clock::time_point at;
  };
  std::optional<Begun> begin();
  void commit(const Begun& step);
  // `next`: the step that was begun after it, if any.
  void finish(const Begun& step, Begun* next);
  bool tells_token(const Choice& choice, const Shortlist& shortlist) const;
  // Whether the step after this one may be begun before this one is computed.
  bool may_run_ahead(const Begun& step) const;
  // Stand-ins for the tokens that it will draw, until these are known.
  void await_tokens(const Begun& step);
  void forget_awaited();
  // Brings to the tier what should be there soon.
  void keep(std::chrono::duration<double> time);
  void keep_rest();
  bool keeps() const { return tier_ && tier_->is_lasting() && !has_failed_to_keep_; }
  void keep_no_more(const std::exception& error);
  bool has_to_keep() const;
  void note_cost(const Begun& step, std::chrono::duration<double> took);
  TierCosts costs() const;
  void note_stats();
  void schedule(Choice& choice);
  // A row of logits: what the step tells of it, or all of it, once.
  struct LogitsRow {
    Shortlist shortlist;
    std::function<std::span<float>()> read;
  };
  std::vector<ShortlistWish> wishes_of(const std::vector<PlannedRows>& rows) const;
  // `logits` (from rows.logits_begin() on) say how likely the tokens after them were.
  void score_prompt(Job& job, const PlannedRows& rows, std::span<const float> logits);
  // The newest logits of a sequence are there. Those of a prompt serve all answers to it.
  void answer(Choice& choice, const LogitsRow& row);
  void fork(Job& job, const LogitsRow& row);
  void advance(Choice& choice, const LogitsRow& row);
  Sampled drawn(Choice& choice, const LogitsRow& row) const;
  bool end_reasoning(Choice& choice);
  bool append(Choice& choice, int32_t token, std::optional<TokenLogprobs> logprobs);
  void finish_embedding(Choice& choice, std::span<const float> elements);
  void finish(Choice& choice, FinishReason reason, Event event);
  void emit(Job& job, Event event);
  // All that is left of the job.
  void finish(Job& job, FinishReason reason, const std::string& error = "");
  void fail_all(const std::string& sentence);
  void note_failure();
  Usage usage_of(const Choice& choice) const;
  int64_t max_tokens_of(const Choice& choice) const;

  const Options options_;
  const MemoryPlan plan_;
  const Model& model_;
  Memory& device_;  // of the backend
  const bool can_run_ahead_;
  SequenceMemory memory_;
  CacheMover mover_;
  const std::unique_ptr<CacheTier> tier_;  // nullptr: there is none
  bool has_failed_to_keep_ = false;        // what computes does not give its pages any more
  Runner runner_;
  Scheduler scheduler_;
  // By id; engine thread only, as are the following.
  std::map<uint64_t, std::unique_ptr<Job>> jobs_;
  std::unordered_map<uint64_t, Choice*>
      choices_;  // those that the scheduler knows, by the id of the sequence
  std::set<std::pair<std::chrono::steady_clock::time_point, uint64_t>> deadlines_;  // with ids of jobs
  std::optional<Begun> begun_;  // and not finished, but ahead of it another one may be begun
  std::chrono::steady_clock::time_point finished_at_{};
  std::chrono::duration<double> keep_time_{};  // that steps have left for it
  std::vector<float> forked_logits_;
  double row_us_ = TierCosts{}.row_us;  // a running mean
  uint64_t last_sequence_id_ = 0;

  mutable std::mutex mutex_;  // guards what follows
  Stats stats_;
  std::string failure_;
  std::condition_variable wake_;
  std::vector<std::unique_ptr<Job>> incoming_;
  std::vector<Cancelled> cancelled_;
  int64_t n_unfinished_ = 0;  // answers
  RateLimit rate_limit_;
  FinishClock finish_clock_;
  uint64_t last_id_ = 0;
  bool is_stopping_ = false;

  std::thread thread_;  // last: it uses all of the above
};

std::optional<Engine::Submitted> Engine::Loop::refuse(const Request& request) {
  if (!failure_.empty())
    return Submitted{.ticket = std::nullopt, .refusal = failure_, .reason = RefusalReason::device_lost};
  if (n_unfinished_ + request.n > options_.max_waiting + options_.max_sequences) {
    return Submitted{.ticket = std::nullopt,
                     .refusal = fmt::format("the queue is full: {} answers are unfinished", n_unfinished_),
                     .reason = RefusalReason::queue_full,
                     .retry_after_s = finish_clock_.expected_s()};
  }
  const double wait_s = rate_limit_.ask(request.key, std::chrono::steady_clock::now());
  if (wait_s == 0.0) return std::nullopt;
  return Submitted{.ticket = std::nullopt,
                   .refusal = fmt::format("the key may ask {} times a minute, and once more in {:.1f} s",
                                          options_.max_requests_per_minute, wait_s),
                   .reason = RefusalReason::rate,
                   .retry_after_s = wait_s};
}

Engine::Submitted Engine::Loop::submit(Request request) {
  if (auto fault = find_fault(request, model_.shape(), options_))
    return {.ticket = std::nullopt, .refusal = std::move(fault->sentence), .reason = fault->reason};
  Submitted out;
  {
    const std::lock_guard lock(mutex_);
    if (auto refused = refuse(request)) return std::move(*refused);
    n_unfinished_ += request.n;
    auto job = make_job(std::move(request), model_.shape());
    job->id = ++last_id_;
    out.ticket = Ticket{.id = last_id_, .events = job->events};
    incoming_.push_back(std::move(job));
  }
  wake_.notify_one();
  return out;
}

void Engine::Loop::cancel(Cancelled what) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(what);
  }
  wake_.notify_one();
}

void Engine::Loop::run() {
  while (receive()) {
    try {
      expire();
      step();
    } catch (const std::exception& error) {
      note_failure();
      fail_all(error.what());
    }
    note_stats();
    if (options_.on_events) options_.on_events();
  }
  while (!jobs_.empty()) finish(*jobs_.begin()->second, FinishReason::cancelled);
  if (options_.on_events) options_.on_events();
  keep_rest();
}

void Engine::Loop::keep(std::chrono::duration<double> time) {
  if (!keeps()) return;
  const auto begin = std::chrono::steady_clock::now();
  try {
    while (tier_->has_room() && scheduler_.keep_next()) {
      if (std::chrono::steady_clock::now() - begin > time) return;
    }
  } catch (const std::exception& error) {
    keep_no_more(error);
  }
}

void Engine::Loop::keep_rest() {
  if (!keeps()) return;
  tier_->set_finish_by(std::chrono::steady_clock::now() + kKeepRest);
  try {
    while (scheduler_.has_to_keep() && tier_->wait_for_room()) scheduler_.keep_next();
  } catch (const std::exception& error) {
    return keep_no_more(error);
  }
  if (scheduler_.has_to_keep()) log_info("not all prefixes could be kept: the disk is too slow for that");
}

void Engine::Loop::keep_no_more(const std::exception& error) {
  has_failed_to_keep_ = true;
  log_warning("prefixes are kept no more: {}", error.what());
}

bool Engine::Loop::has_to_keep() const { return keeps() && scheduler_.has_to_keep() && tier_->has_room(); }

bool Engine::Loop::receive() {
  std::vector<std::unique_ptr<Job>> incoming;
  std::vector<Cancelled> cancelled;
  bool is_stopping = false;
  {
    std::unique_lock lock(mutex_);
    const auto is_wanted = [this] {
      return is_stopping_ || !jobs_.empty() || !incoming_.empty() || !cancelled_.empty();
    };
    while (keeps() && scheduler_.has_to_keep() && !is_wanted()) {
      lock.unlock();
      keep(kIdleTurn);
      lock.lock();
      if (!tier_->has_room()) wake_.wait_for(lock, kIdleTurn, is_wanted);
    }
    wake_.wait(lock, is_wanted);
    if (jobs_.empty()) finish_clock_.note_begin();
    incoming.swap(incoming_);
    cancelled.swap(cancelled_);
    is_stopping = is_stopping_;
  }
  for (auto& job : incoming) take_in(std::move(job));
  for (const Cancelled& each : cancelled) take_away(each);
  return !is_stopping;
}

void Engine::Loop::take_in(std::unique_ptr<Job> job) {
  Choice& first = job->choices.front();
  schedule(first);
  scheduler_.add(first.sequence);
  if (job->request.deadline) deadlines_.emplace(*job->request.deadline, job->id);
  const uint64_t id = job->id;
  jobs_.emplace(id, std::move(job));
}

void Engine::Loop::take_away(const Cancelled& what) {
  const auto found = jobs_.find(what.id);
  if (found == jobs_.end()) return;
  Job& job = *found->second;
  if (!what.index) return finish(job, FinishReason::cancelled);
  Choice& choice = job.choices.at(static_cast<size_t>(*what.index));
  if ((job.is_forked || job.choices.size() == 1) && !choice.is_done)
    finish(choice, FinishReason::cancelled, {});
}

void Engine::Loop::schedule(Choice& choice) {
  choice.sequence.id = ++last_sequence_id_;
  choices_.emplace(choice.sequence.id, &choice);
  choice.is_scheduled = true;
}

void Engine::Loop::expire() {
  const auto now = std::chrono::steady_clock::now();
  while (!deadlines_.empty() && deadlines_.begin()->first <= now)
    finish(*jobs_.at(deadlines_.begin()->second), FinishReason::deadline);
}

// Of steps that a prompt is part of: a row of an answer alone costs a whole pass over the weights.
void Engine::Loop::note_cost(const Begun& step, std::chrono::duration<double> took) {
  int64_t n_rows = 0;
  for (const Begun::Rows& rows : step.rows) n_rows += rows.planned.end - rows.planned.begin;
  if (n_rows < 16) return;
  row_us_ = row_us_ * 0.9 + took.count() * 1e6 / static_cast<double>(n_rows) * 0.1;
}

TierCosts Engine::Loop::costs() const {
  return {.row_us = row_us_, .page_us = tier_->page_us(), .state_us = tier_->state_us()};
}

void Engine::Loop::note_stats() {
  const std::lock_guard lock(mutex_);
  stats_ = {.n_running = scheduler_.n_running(),
            .n_waiting = scheduler_.n_waiting(),
            .n_preemptions = scheduler_.n_preemptions(),
            .n_parked = scheduler_.n_parked(),
            .n_pages_fetched = scheduler_.n_fetched(),
            .tier_used_bytes = tier_ ? tier_->n_bytes() : 0,
            .n_pages = memory_.n_pages(),
            .n_pages_used = scheduler_.n_pages_used()};
}

void Engine::Loop::step() {
  if (begun_) await_tokens(*begun_);
  std::optional<Begun> next = begin();
  if (begun_) finish(*std::exchange(begun_, std::nullopt), next ? &*next : nullptr);
  if (!next) return;
  commit(*next);
  if (may_run_ahead(*next)) {
    begun_ = std::move(next);
  } else {
    finish(*next, nullptr);
    keep(std::exchange(keep_time_, {}));
  }
}

std::optional<Engine::Loop::Begun> Engine::Loop::begin() {
  if (tier_) scheduler_.set_costs(costs());
  // To fetch something would be to wait for the step that is computed now.
  const std::vector<PlannedRows> rows = scheduler_.plan(!begun_);
  if (rows.empty()) return std::nullopt;
  Begun step{.rows = {}, .wishes = wishes_of(rows), .computed = {}, .at = std::chrono::steady_clock::now()};
  int64_t n_outputs = 0;
  for (const PlannedRows& planned : rows) {
    Job& job = *choices_.at(planned.sequence->id)->job;
    const std::chrono::duration<double> waited = step.at - job.submitted;
    if (job.queue_s < 0) job.queue_s = waited.count();
    const int64_t first = n_outputs;
    n_outputs += model_.shape().gives_embeddings() ? std::ssize(pools_of(planned, 0, *options_.pooling))
                                                   : planned.end - planned.logits_begin();
    step.rows.push_back({planned, planned.sequence->id, first, n_outputs, planned.wants_logits()});
  }
  step.computed = runner_.begin(rows, scheduler_.panes(), step.wishes);
  return step;
}

void Engine::Loop::commit(const Begun& step) {
  std::vector<PlannedRows> rows;
  for (const Begun::Rows& each : step.rows)
    if (choices_.contains(each.id)) rows.push_back(each.planned);
  scheduler_.commit(rows);
}

bool Engine::Loop::may_run_ahead(const Begun& step) const {
  if (!can_run_ahead_ || model_.shape().gives_embeddings() || scheduler_.is_fetching()) return false;
  if (has_to_keep() && keep_time_.count() * 1e6 >= tier_->page_us()) return false;
  return std::ranges::all_of(step.rows, [&](const Begun::Rows& rows) {
    const auto found = choices_.find(rows.id);
    if (found == choices_.end()) return true;
    if (rows.planned.is_scored) return false;
    if (!rows.wants_logits) return true;
    const ShortlistWish& wish = step.wishes[static_cast<size_t>(rows.end_output) - 1];
    // A state cannot go back to where the token was not known.
    const bool is_drawn = model_.shape().state_layers.empty() ? wish.is_draw : wish.is_sure_draw();
    const Choice& choice = *found->second;
    return is_drawn && choice.n_untold * kToldForOne <= usage_of(choice).n_generated &&
           !choice.job->request.reasoning;
  });
}

// Whose answer ends with that token by its length needs none.
void Engine::Loop::await_tokens(const Begun& step) {
  for (const Begun::Rows& rows : step.rows) {
    const auto found = choices_.find(rows.id);
    if (found == choices_.end() || !rows.wants_logits) continue;
    Choice& choice = *found->second;
    if (usage_of(choice).n_generated + 1 < max_tokens_of(choice))
      choice.sequence.tokens.push_back(token_of_row(rows.end_output - 1));
  }
}

void Engine::Loop::forget_awaited() {
  for (const auto& [id, choice] : choices_) {
    std::vector<int32_t>& tokens = choice->sequence.tokens;
    if (!tokens.empty() && tokens.back() < 0) tokens.pop_back();
  }
}

bool Engine::Loop::tells_token(const Choice& choice, const Shortlist& shortlist) const {
  return sample(shortlist, model_.shape().n_vocab, choice.sampling, choice.sequence.tokens.size())
      .has_value();
}

void Engine::Loop::finish(const Begun& step, Begun* next) {
  const std::vector<Shortlist> shortlists = runner_.shortlists(step.computed);
  forget_awaited();
  const auto now = std::chrono::steady_clock::now();
  const std::chrono::duration<double> took = now - std::max(step.at, std::exchange(finished_at_, now));
  note_cost(step, took);
  if (tier_) tier_->note_step(took);
  keep_time_ = took * kKeepShare + (has_to_keep() ? keep_time_ : keep_time_.zero());
  for (const Begun::Rows& rows : step.rows) {
    const auto found = choices_.find(rows.id);
    if (found == choices_.end()) continue;
    Choice& choice = *found->second;
    const auto read_from = [&](int64_t first) {
      return runner_.read(step.computed.logits, first, rows.end_output);
    };
    if (rows.planned.is_scored) score_prompt(*choice.job, rows.planned, read_from(rows.first_output));
    if (!rows.wants_logits) continue;
    const int64_t last = rows.end_output - 1;
    if (model_.shape().gives_embeddings()) {
      finish_embedding(choice, read_from(rows.first_output));
    } else if (next != nullptr && !tells_token(choice, shortlists[static_cast<size_t>(last)])) {
      // The row is gone, and the next step went on from some other token.
      choice.needs_row = true;
      ++choice.n_untold;
      scheduler_.recompute_newest(choice.sequence);
      std::erase_if(next->rows, [&](const Begun::Rows& later) { return later.id == rows.id; });
    } else {
      answer(choice, {shortlists[static_cast<size_t>(last)], [&] { return read_from(last); }});
    }
  }
}

// One for each row of logits. A grammar decides too late which tokens may come, log-probabilities are of all
// tokens, and the answers to one prompt share the row that the first of them is drawn from.
std::vector<ShortlistWish> Engine::Loop::wishes_of(const std::vector<PlannedRows>& rows) const {
  std::vector<ShortlistWish> wishes;
  if (model_.shape().gives_embeddings()) return wishes;
  for (const PlannedRows& planned : rows) {
    wishes.resize(wishes.size() + static_cast<size_t>(planned.end - planned.logits_begin()));
    const Choice& choice = *choices_.at(planned.sequence->id);
    const Request& request = choice.job->request;
    const bool needs_row = choice.needs_row || request.grammar || request.n_logprobs >= 0 ||
                           (request.n > 1 && !choice.job->is_forked);
    if (planned.wants_logits() && !needs_row)
      wishes.back() = wish_of(choice.sampling, model_.shape().n_vocab, choice.sequence.tokens.size());
  }
  return wishes;
}

void Engine::Loop::score_prompt(Job& job, const PlannedRows& rows, std::span<const float> logits) {
  const auto n_vocab = static_cast<size_t>(model_.shape().n_vocab);
  const std::vector<int32_t>& tokens = rows.sequence->tokens;
  for (int64_t i = rows.logits_begin(); i < std::min(rows.end, rows.sequence->n_prompt - 1); ++i) {
    const auto next = static_cast<size_t>(i + 1);
    const size_t row = static_cast<size_t>(i - rows.logits_begin());
    if (job.prompt_logprobs.size() < next)  // else it was preempted and is computed again
      job.prompt_logprobs.push_back(
          score(logits.subspan(row * n_vocab, n_vocab), tokens[next], job.request.n_prompt_logprobs));
  }
}

// Scales each embedding to length 1. One of zeros stays as it is.
void normalise(std::span<float> elements, size_t n_embedding) {
  for (size_t begin = 0; begin < elements.size(); begin += n_embedding) {
    const std::span<float> embedding = elements.subspan(begin, n_embedding);
    double sum = 0.0;
    for (const float x : embedding) sum += double{x} * double{x};
    if (sum == 0.0) continue;
    const double scale = 1.0 / std::sqrt(sum);
    for (float& x : embedding) x = static_cast<float>(x * scale);
  }
}

void Engine::Loop::finish_embedding(Choice& choice, std::span<const float> elements) {
  std::vector<float> embedding(elements.begin(), elements.end());
  const bool is_finite = std::ranges::all_of(embedding, [](float x) { return std::isfinite(x); });
  if (!is_finite)
    return finish(choice, FinishReason::error, {.error = "the embedding holds a NaN or an infinity"});
  if (choice.job->request.normalises && *options_.pooling != Pooling::rank)
    normalise(embedding, static_cast<size_t>(model_.shape().n_embedding));
  finish(choice, FinishReason::stop, {.embedding = std::move(embedding)});
}

int64_t Engine::Loop::max_tokens_of(const Choice& choice) const {
  const int64_t room = options_.n_ctx - choice.sequence.n_prompt;
  const int64_t wanted = choice.job->request.max_tokens;
  return wanted < 0 ? room : std::min(room, wanted);
}

Usage Engine::Loop::usage_of(const Choice& choice) const {
  const auto n_tokens = static_cast<int64_t>(choice.sequence.tokens.size());
  return {.n_prompt = choice.sequence.n_prompt,
          .n_cached = choice.sequence.n_cached,
          .n_generated = std::max<int64_t>(0, n_tokens - choice.sequence.n_prompt),
          .queue_s = std::max(0.0, choice.job->queue_s)};
}

void Engine::Loop::answer(Choice& choice, const LogitsRow& row) {
  Job& job = *choice.job;
  if (job.choices.size() > 1 && !job.is_forked) fork(job, row);
  advance(choice, row);
}

void Engine::Loop::fork(Job& job, const LogitsRow& row) {
  job.is_forked = true;
  const Sequence& parent = job.choices.front().sequence;
  for (Choice& choice : std::span(job.choices).subspan(1)) {
    choice.sequence.tokens = parent.tokens;
    schedule(choice);
    scheduler_.fork(parent, choice.sequence);
    const std::span<const float> logits = row.read();
    forked_logits_.assign(logits.begin(), logits.end());  // drawing overwrites them
    advance(choice, {{}, [this] { return std::span(forked_logits_); }});
  }
}

// Draws the next token of a sequence whose newest logits are there.
void Engine::Loop::advance(Choice& choice, const LogitsRow& row) {
  const Request& request = choice.job->request;
  if (max_tokens_of(choice) == 0) return finish(choice, FinishReason::length, {});
  if (request.grammar && !choice.constraint) choice.constraint.emplace(request.grammar, request.end_tokens);
  if (request.reasoning && !choice.reasoning) choice.reasoning.emplace(*request.reasoning);
  if (choice.reasoning && end_reasoning(choice)) return;
  if (choice.constraint) {
    choice.constraint->allow(choice.sampler.allowed);
    if (!choice.constraint->fault().empty())
      return finish(choice, FinishReason::error, {.error = choice.constraint->fault()});
  }
  Sampled sampled = drawn(choice, row);
  choice.needs_row = false;
  if (!sampled.fault.empty())
    return finish(choice, FinishReason::error, {.error = std::string(sampled.fault)});
  const bool is_end = std::ranges::find(request.end_tokens, sampled.token) != request.end_tokens.end();
  if (is_end && !request.ignore_end) return finish(choice, FinishReason::stop, {});
  if (!append(choice, sampled.token, std::move(sampled.logprobs))) return;
  // What can only come so is not drawn, and computed at once. Its log-probabilities would need its logits.
  if (!choice.constraint || request.n_logprobs >= 0) return;
  for (const int32_t token : choice.constraint->forced())
    if (!append(choice, token, std::nullopt)) return;
}

Sampled Engine::Loop::drawn(Choice& choice, const LogitsRow& row) const {
  const std::vector<int32_t>& history = choice.sequence.tokens;
  if (!row.shortlist.tokens.empty()) {
    if (auto sampled = sample(row.shortlist, model_.shape().n_vocab, choice.sampling, history.size()))
      return *std::move(sampled);
    ++choice.n_untold;
  }
  return sample(row.read(), history, choice.sampling, choice.job->request.n_logprobs, choice.sampler);
}

// Puts what ends the reasoning where that has become too long. False where there is nothing to put.
bool Engine::Loop::end_reasoning(Choice& choice) {
  const std::vector<int32_t>& end = choice.job->request.reasoning->end();
  if (!choice.reasoning->is_spent() || (choice.constraint && !choice.constraint->allows(end))) return false;
  for (const int32_t token : end)
    if (!append(choice, token, std::nullopt)) break;
  return true;
}

// The token is part of the answer. False where it was the last one.
bool Engine::Loop::append(Choice& choice, int32_t token, std::optional<TokenLogprobs> logprobs) {
  choice.sequence.tokens.push_back(token);
  Event event{
      .index = choice.index, .token = token, .logprobs = std::move(logprobs), .usage = usage_of(choice)};
  std::optional<FinishReason> reason;
  if (event.usage.n_generated == max_tokens_of(choice)) reason = FinishReason::length;
  if (choice.reasoning) choice.reasoning->take(token);
  if (choice.constraint) {
    choice.constraint->accept(token);
    event.error = choice.constraint->fault();
    if (!event.error.empty()) {
      reason = FinishReason::error;
    } else if (choice.constraint->is_finished()) {
      reason = FinishReason::stop;
    }
  }
  if (reason) {
    finish(choice, *reason, std::move(event));
  } else {
    emit(*choice.job, std::move(event));
  }
  return !reason;
}

void Engine::Loop::finish(Choice& choice, FinishReason reason, Event event) {
  Job& job = *choice.job;
  if (choice.is_scheduled) {
    scheduler_.remove(choice.sequence);
    choices_.erase(choice.sequence.id);
  }
  choice.is_done = true;
  event.index = choice.index;
  event.finish_reason = reason;
  event.usage = usage_of(choice);
  {
    const std::lock_guard lock(mutex_);
    --n_unfinished_;  // before the client knows: its next request must find the place
    finish_clock_.note_finish();
  }
  emit(job, std::move(event));
  if (--job.n_open > 0) return;
  job.events->close();
  if (job.request.deadline) deadlines_.erase({*job.request.deadline, job.id});
  jobs_.erase(job.id);
}

void Engine::Loop::emit(Job& job, Event event) {
  event.prompt_logprobs = std::exchange(job.prompt_logprobs, {});
  job.events->push(std::move(event));
}

void Engine::Loop::finish(Job& job, FinishReason reason, const std::string& error) {
  std::vector<Choice*> open;
  for (Choice& choice : job.choices) {
    if (!choice.is_done) open.push_back(&choice);
  }
  for (Choice* choice : open) finish(*choice, reason, {.error = error});  // the last one takes the job along
}

// A step threw (memory, a device): every request is told, waiting ones too, and the engine goes on where the
// device does.
void Engine::Loop::fail_all(const std::string& sentence) {
  log_line(LogLevel::error, sentence);
  begun_.reset();
  forget_awaited();
  while (!jobs_.empty()) finish(*jobs_.begin()->second, FinishReason::error, sentence);
}

// What has failed for good says so twice.
void Engine::Loop::note_failure() {
  if (!failure().empty()) return;
  std::string reason;
  for (int i = 0; i < 2; ++i) {
    try {
      return device_.wait();
    } catch (const std::exception& error) {
      reason = error.what();
    }
  }
  const std::lock_guard lock(mutex_);
  failure_ = "the device has failed, and nothing can be computed any more: " + reason;
}

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::deadline:
      return "deadline";
    case FinishReason::error:
      return "error";
  }
  return "error";
}

uint64_t seed_of_choice(uint64_t seed, int index) {
  return seed + static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15;  // the golden ratio: all apart
}

std::string MemoryPlan::Part::text() const {
  return fmt::format("{:.1f} MiB for weights, {:.1f} MiB for keys, values and states, {:.1f} MiB for a step",
                     mib(weights_bytes), mib(kv_bytes + state_bytes), mib(arena_bytes));
}

Engine::Engine(const Model& model, Backend& backend, const Options& options)
    : loop_(std::make_unique<Loop>(model, backend, options)) {}
Engine::~Engine() = default;
Engine::Submitted Engine::submit(Request request) { return loop_->submit(std::move(request)); }
void Engine::cancel(uint64_t id) { loop_->cancel({id}); }
void Engine::cancel(uint64_t id, int index) { loop_->cancel({id, index}); }
const MemoryPlan& Engine::memory() const { return loop_->memory(); }
Engine::Stats Engine::stats() const { return loop_->stats(); }
const Engine::Options& Engine::options() const { return loop_->options(); }
std::string Engine::failure() const { return loop_->failure(); }
MemoryPlan Engine::plan(const Model& model, const Options& options) {
  return plan_for(model, filled_in(model, options));
}

}  // namespace millrace
