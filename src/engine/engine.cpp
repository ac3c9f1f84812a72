#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <map>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "engine/constraint.h"
#include "engine/memory.h"
#include "engine/runner.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"

namespace millrace {
namespace {

int64_t n_pages_for(int64_t n_positions, int64_t page_size) {
  return (n_positions + page_size - 1) / page_size;
}

int64_t n_running_of(const Engine::Options& options) {
  return std::min(options.max_sequences, options.max_rows);
}

int64_t n_slots_for(const Model& model, const Engine::Options& options) {
  if (model.shape().state_layers.empty()) return 0;
  return n_running_of(options) + (options.has_prefix_cache ? options.n_snapshots : 0);
}

SequenceMemory::Shape memory_shape(const Model& model, const Engine::Options& options) {
  return {.kv = {.layers = model.shape().kv_layers,
                 .n_pages = n_pages_for(options.n_kv_positions, options.page_size),
                 .page_size = options.page_size,
                 .dtype = options.kv_dtype},
          .states = {.layers = model.shape().state_layers, .n_slots = n_slots_for(model, options)}};
}

BatchLimits batch_limits(const Model& model, const Engine::Options& options) {
  const int64_t n_seqs = n_running_of(options);
  const bool wants_every_row = model.shape().gives_embeddings() && options.pooling == Pooling::none;
  return {.max_rows = options.max_rows,
          .max_sequences = n_seqs,
          .max_logit_rows = wants_every_row ? options.max_rows : n_seqs,
          .max_pages = n_pages_for(options.n_ctx, options.page_size),
          .pooling = options.pooling.value_or(Pooling::none)};
}

bool keeps_sequences_whole(const Model& model, const Engine::Options& options) {
  return model.shape().needs_whole_sequences(options.pooling.value_or(Pooling::none));
}

// Positions for sequences that fill a step, each with a page that it does not fill.
int64_t n_positions_of_step(const Engine::Options& options) {
  return std::max(options.n_ctx + options.page_size,
                  options.max_rows + 2 * options.max_sequences * options.page_size);
}

// What a model that gives embeddings, or that cannot divide sequences, makes of the options.
void fill_in_embeddings(const Model& model, Engine::Options& options) {
  const ModelShape& shape = model.shape();
  if (options.pooling && !shape.gives_embeddings())
    fail(ErrorKind::usage, "a pooling is given for a model without embeddings");
  if (shape.gives_embeddings() && !options.pooling) options.pooling = shape.pooling;
  if (options.pooling == Pooling::rank && shape.n_scores == 0)
    fail(ErrorKind::usage, "the pooling is rank, and the model has no classification head to rank by");
  if (!shape.is_causal && options.n_ctx > shape.n_ctx_train)
    fail(ErrorKind::usage, "the context is {}, the model has {} positions", options.n_ctx, shape.n_ctx_train);
  if (keeps_sequences_whole(model, options)) options.has_prefix_cache = false;
  if (shape.gives_embeddings() && options.n_kv_positions == 0)
    options.n_kv_positions = n_positions_of_step(options);
}

Engine::Options filled_in(const Model& model, Engine::Options options) {
  static constexpr int64_t kMax = std::numeric_limits<int32_t>::max();  // positions, rows and pages are int32
  const auto need = [](const char* name, int64_t value, int64_t min) {
    if (value < min || value > kMax)
      fail(ErrorKind::usage, "{} is {}, expected {} to {}", name, value, min, kMax);
  };
  if (options.n_ctx == 0) options.n_ctx = model.shape().n_ctx_train;
  fill_in_embeddings(model, options);
  if (options.n_kv_positions == 0) options.n_kv_positions = options.n_ctx;
  need("the context", options.n_ctx, 1);
  need("the number of kept positions", options.n_kv_positions, options.n_ctx);
  need("the page size", options.page_size, 1);
  need("the rows of a step", options.max_rows, 1);
  need("the number of running sequences", options.max_sequences, 1);
  need("the length of the queue", options.max_waiting, 1);
  need("the number of snapshots", options.n_snapshots, 1);
  need("the distance of snapshots", options.snapshot_distance, 1);
  options.snapshot_distance = n_pages_for(options.snapshot_distance, options.page_size) * options.page_size;
  return options;
}

MemoryPlan plan_for(const Model& model, const Engine::Options& options) {
  const SequenceMemory::Shape shape = memory_shape(model, options);
  return {.kv_bytes = shape.kv_bytes(),
          .state_bytes = shape.state_bytes(),
          .arena_bytes = Runner::arena_bytes(model, shape, batch_limits(model, options))};
}

MemoryPlan fitting_plan(const Model& model, const Engine::Options& options) {
  const MemoryPlan plan = plan_for(model, options);
  need_memory({.weights_bytes = options.weights_bytes,
               .kv_bytes = plan.kv_bytes,
               .state_bytes = plan.state_bytes,
               .arena_bytes = plan.arena_bytes,
               .n_positions = options.n_kv_positions,
               .page_size = options.page_size,
               .n_slots = n_slots_for(model, options)});
  return plan;
}

}  // namespace

// What the engine thread owns, and the two queues through which the others speak to it.
class Engine::Loop {
 public:
  Loop(const Model& model, Backend& backend, const Options& options)
      : options_(filled_in(model, options)),
        plan_(fitting_plan(model, options_)),
        model_(model),
        memory_(memory_shape(model, options_)),
        runner_(model, backend, memory_, batch_limits(model, options_)),
        scheduler_({.n_pages = memory_.kv.shape().n_pages,
                    .page_size = options_.page_size,
                    .max_rows = options_.max_rows,
                    .max_sequences = batch_limits(model, options_).max_sequences,
                    .has_prefix_cache = options_.has_prefix_cache,
                    .n_slots = memory_.states.shape().n_slots,
                    .snapshot_distance = options_.snapshot_distance,
                    .keeps_sequences_whole = keeps_sequences_whole(model, options_)}),
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
  void cancel(uint64_t id);
  const MemoryPlan& memory() const { return plan_; }
  Stats stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  const Options& options() const { return options_; }

 private:
  using Clock = std::chrono::steady_clock;
  // A request and its sequence.
  struct Job {
    Request request;
    std::shared_ptr<Channel<Event>> events;
    Sequence sequence;
    SamplerState sampler;
    std::optional<Constraint> constraint;  // where the request has a grammar, from the first draw on
    Clock::time_point submitted = Clock::now();
    double queue_s = -1.0;  // until its first rows were planned; negative before
  };

  std::string fault_of(const Request& request) const;
  std::string fault_of_answer(const Request& request) const;
  std::string fault_of_embedding(const Request& request) const;
  void run();
  // Takes over what came in; waits for something when there is nothing to compute. False when the engine
  // stops.
  bool receive();
  void step();
  void note_stats();
  void advance(Job& job, std::span<float> logits);
  bool append(Job& job, int32_t token, std::optional<TokenLogprobs> logprobs);
  void finish_embedding(Job& job, std::span<const float> elements);
  void finish(Job& job, FinishReason reason, Event event);
  void fail_all(const std::string& sentence);
  Usage usage_of(const Job& job) const;
  int64_t max_tokens_of(const Job& job) const;

  const Options options_;
  const MemoryPlan plan_;
  const Model& model_;
  SequenceMemory memory_;
  Runner runner_;
  Scheduler scheduler_;
  std::map<uint64_t, std::unique_ptr<Job>> jobs_;  // by id; engine thread only

  mutable std::mutex mutex_;  // guards what follows
  Stats stats_;
  std::condition_variable wake_;
  std::vector<std::unique_ptr<Job>> incoming_;
  std::vector<uint64_t> cancelled_;
  int64_t n_unfinished_ = 0;
  uint64_t last_id_ = 0;
  bool is_stopping_ = false;

  std::thread thread_;  // last: it uses all of the above
};

std::string Engine::Loop::fault_of(const Request& request) const {
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t n_vocab = model_.shape().n_vocab;
  if (n_prompt == 0) return "the prompt is empty, expected at least one token";
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= n_vocab)
      return fmt::format("the prompt holds token {}, the vocabulary has {}", token, n_vocab);
  }
  return model_.shape().gives_embeddings() ? fault_of_embedding(request) : fault_of_answer(request);
}

std::string Engine::Loop::fault_of_answer(const Request& request) const {
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t n_vocab = model_.shape().n_vocab;
  if (n_prompt >= options_.n_ctx) {
    return fmt::format("the prompt has {} tokens, the context {}: no room for an answer", n_prompt,
                       options_.n_ctx);
  }
  if (!request.token_types.empty()) return "the model knows no token types";
  if (request.max_tokens < -1)
    return fmt::format("max_tokens is {}, expected -1 or more", request.max_tokens);
  if (request.n_logprobs < -1 || request.n_logprobs > n_vocab) {
    return fmt::format("logprobs is {}, expected -1 to {}", request.n_logprobs, n_vocab);
  }
  if (request.grammar && request.grammar->tokens().n_vocab() != n_vocab) {
    return fmt::format("the grammar is for {} tokens, the model has {}", request.grammar->tokens().n_vocab(),
                       n_vocab);
  }
  if (request.grammar && request.ignore_end)
    return "ignore_end cannot be used with a grammar, which must end";
  return find_fault(request.sampling, n_vocab).value_or("");
}

std::string Engine::Loop::fault_of_embedding(const Request& request) const {
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  if (n_prompt > options_.n_ctx)
    return fmt::format("the text has {} tokens, the context {}", n_prompt, options_.n_ctx);
  if (keeps_sequences_whole(model_, options_) && n_prompt > options_.max_rows) {
    return fmt::format(
        "the text has {} tokens, which this model must compute in one step, and a step computes {}", n_prompt,
        options_.max_rows);
  }
  if (request.max_tokens != -1 || request.n_logprobs != -1)
    return "the model gives embeddings: max_tokens and logprobs mean nothing to it";
  if (!request.token_types.empty() && request.token_types.size() != request.prompt.size()) {
    return fmt::format("there are {} token types for {} tokens", request.token_types.size(), n_prompt);
  }
  for (const int32_t type : request.token_types) {
    if (type < 0 || type >= model_.shape().n_token_types)
      return fmt::format("the token type {} is none of the {} that the model has", type,
                         model_.shape().n_token_types);
  }
  return "";
}

Engine::Submitted Engine::Loop::submit(Request request) {
  if (std::string fault = fault_of(request); !fault.empty())
    return {.ticket = std::nullopt, .refusal = std::move(fault)};
  auto job = std::make_unique<Job>();
  job->events = std::make_shared<Channel<Event>>();
  job->sequence.tokens = request.prompt;
  job->sequence.token_types = request.token_types;
  job->sequence.n_prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t long_from = model_.shape().long_rope_from;
  job->sequence.rope_table = long_from > 0 && job->sequence.n_prompt > long_from ? 1 : 0;
  job->request = std::move(request);

  Submitted out;
  {
    const std::lock_guard lock(mutex_);
    if (n_unfinished_ >= options_.max_waiting + options_.max_sequences) {
      out.refusal = fmt::format("the queue is full: {} requests are unfinished", n_unfinished_);
      return out;
    }
    ++n_unfinished_;
    job->sequence.id = ++last_id_;
    out.ticket = Ticket{.id = last_id_, .events = job->events};
    incoming_.push_back(std::move(job));
  }
  wake_.notify_one();
  return out;
}

void Engine::Loop::cancel(uint64_t id) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(id);
  }
  wake_.notify_one();
}

void Engine::Loop::run() {
  while (receive()) {
    try {
      step();
    } catch (const std::exception& error) {
      fail_all(error.what());
    }
    note_stats();
    if (options_.on_events) options_.on_events();
  }
  while (!jobs_.empty()) finish(*jobs_.begin()->second, FinishReason::cancelled, {});
  if (options_.on_events) options_.on_events();
}

bool Engine::Loop::receive() {
  std::vector<std::unique_ptr<Job>> incoming;
  std::vector<uint64_t> cancelled;
  {
    std::unique_lock lock(mutex_);
    wake_.wait(
        lock, [this] { return is_stopping_ || !jobs_.empty() || !incoming_.empty() || !cancelled_.empty(); });
    incoming.swap(incoming_);
    cancelled.swap(cancelled_);
    if (is_stopping_) {
      for (auto& job : incoming) jobs_.emplace(job->sequence.id, std::move(job));
      return false;
    }
  }
  for (auto& job : incoming) {
    scheduler_.add(job->sequence);
    const uint64_t id = job->sequence.id;
    jobs_.emplace(id, std::move(job));
  }
  for (const uint64_t id : cancelled) {
    const auto job = jobs_.find(id);
    if (job != jobs_.end()) finish(*job->second, FinishReason::cancelled, {});
  }
  return true;
}

void Engine::Loop::note_stats() {
  const std::lock_guard lock(mutex_);
  stats_ = {.n_running = scheduler_.n_running(),
            .n_waiting = scheduler_.n_waiting(),
            .n_preemptions = scheduler_.n_preemptions(),
            .n_pages = memory_.kv.shape().n_pages,
            .n_pages_used = scheduler_.n_pages_used()};
}

void Engine::Loop::step() {
  const std::vector<PlannedRows> rows = scheduler_.plan();
  if (rows.empty()) return;
  for (const PlannedRows& planned : rows) {
    Job& job = *jobs_.at(planned.sequence->id);
    if (job.queue_s < 0) job.queue_s = std::chrono::duration<double>(Clock::now() - job.submitted).count();
  }
  const Tensor out = runner_.run(rows);  // logits or embeddings
  scheduler_.commit(rows);
  float* at = out.f32();
  for (const PlannedRows& planned : rows) {
    if (!planned.wants_logits()) continue;
    Job& job = *jobs_.at(planned.sequence->id);
    const bool gives_embedding = model_.shape().gives_embeddings();
    const size_t n_rows = gives_embedding ? pools_of(planned, 0, *options_.pooling).size() : 1;
    const std::span<float> elements(at, n_rows * static_cast<size_t>(out.dim(1)));
    at += elements.size();
    if (gives_embedding) {
      finish_embedding(job, elements);
    } else {
      advance(job, elements);
    }
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

void Engine::Loop::finish_embedding(Job& job, std::span<const float> elements) {
  std::vector<float> embedding(elements.begin(), elements.end());
  const bool is_finite = std::ranges::all_of(embedding, [](float x) { return std::isfinite(x); });
  if (!is_finite)
    return finish(job, FinishReason::error, {.error = "the embedding holds a NaN or an infinity"});
  if (job.request.normalises && *options_.pooling != Pooling::rank)
    normalise(embedding, static_cast<size_t>(model_.shape().n_embedding));
  finish(job, FinishReason::stop, {.embedding = std::move(embedding)});
}

int64_t Engine::Loop::max_tokens_of(const Job& job) const {
  const int64_t room = options_.n_ctx - job.sequence.n_prompt;
  return job.request.max_tokens < 0 ? room : std::min(room, job.request.max_tokens);
}

Usage Engine::Loop::usage_of(const Job& job) const {
  return {.n_prompt = job.sequence.n_prompt,
          .n_cached = job.sequence.n_cached,
          .n_generated = static_cast<int64_t>(job.sequence.tokens.size()) - job.sequence.n_prompt,
          .queue_s = std::max(0.0, job.queue_s)};
}

// Draws the next token of a sequence whose newest logits are there.
void Engine::Loop::advance(Job& job, std::span<float> logits) {
  const Request& request = job.request;
  if (max_tokens_of(job) == 0) return finish(job, FinishReason::length, {});
  if (request.grammar && !job.constraint) job.constraint.emplace(request.grammar, request.end_tokens);
  if (job.constraint) {
    job.constraint->allow(job.sampler.allowed);
    if (!job.constraint->fault().empty())
      return finish(job, FinishReason::error, {.error = job.constraint->fault()});
  }
  Sampled sampled = sample(logits, job.sequence.tokens, request.sampling, request.n_logprobs, job.sampler);
  if (!sampled.fault.empty()) return finish(job, FinishReason::error, {.error = std::string(sampled.fault)});
  const bool is_end = std::ranges::find(request.end_tokens, sampled.token) != request.end_tokens.end();
  if (is_end && !request.ignore_end) return finish(job, FinishReason::stop, {});
  if (!append(job, sampled.token, std::move(sampled.logprobs))) return;
  // What can only come so is not drawn, and computed at once. Its log-probabilities would need its logits.
  if (!job.constraint || request.n_logprobs >= 0) return;
  for (const int32_t token : job.constraint->forced())
    if (!append(job, token, std::nullopt)) return;
}

// The token is part of the answer. False where it was the last one.
bool Engine::Loop::append(Job& job, int32_t token, std::optional<TokenLogprobs> logprobs) {
  job.sequence.tokens.push_back(token);
  Event event{.token = token, .logprobs = std::move(logprobs), .usage = usage_of(job)};
  std::optional<FinishReason> reason;
  if (event.usage.n_generated == max_tokens_of(job)) reason = FinishReason::length;
  if (job.constraint) {
    job.constraint->accept(token);
    event.error = job.constraint->fault();
    if (!event.error.empty()) {
      reason = FinishReason::error;
    } else if (job.constraint->is_finished()) {
      reason = FinishReason::stop;
    }
  }
  if (reason) {
    finish(job, *reason, std::move(event));
  } else {
    job.events->push(std::move(event));
  }
  return !reason;
}

void Engine::Loop::finish(Job& job, FinishReason reason, Event event) {
  scheduler_.remove(job.sequence);
  event.finish_reason = reason;
  event.usage = usage_of(job);
  {
    const std::lock_guard lock(mutex_);
    --n_unfinished_;  // before the client knows: its next request must find the place
  }
  job.events->push(std::move(event));
  job.events->close();
  jobs_.erase(job.sequence.id);
}

// A step threw (memory, a device): every request is told, waiting ones too, and the engine goes on.
void Engine::Loop::fail_all(const std::string& sentence) {
  log_line(LogLevel::error, sentence);
  while (!jobs_.empty()) finish(*jobs_.begin()->second, FinishReason::error, {.error = sentence});
}

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::error:
      return "error";
  }
  return "error";
}

Engine::Engine(const Model& model, Backend& backend, const Options& options)
    : loop_(std::make_unique<Loop>(model, backend, options)) {}
Engine::~Engine() = default;
Engine::Submitted Engine::submit(Request request) { return loop_->submit(std::move(request)); }
void Engine::cancel(uint64_t id) { loop_->cancel(id); }
const MemoryPlan& Engine::memory() const { return loop_->memory(); }
Engine::Stats Engine::stats() const { return loop_->stats(); }
const Engine::Options& Engine::options() const { return loop_->options(); }
MemoryPlan Engine::plan(const Model& model, const Options& options) {
  return plan_for(model, filled_in(model, options));
}

}  // namespace millrace
