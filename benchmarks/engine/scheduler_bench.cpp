// The scheduler without a model: what planning costs, and how its policy serves a trace of requests.
//   scheduler_bench step        microseconds a step with 256 running sequences of 2,000 to 10,000 tokens
//   scheduler_bench trace [N]   N requests (100,000): waiting times, shares of keys, hits of the prefix
//   cache,
//                               against first come first served and longest prefix first
//   scheduler_bench soak [N]    N steps (10,000,000) of random workloads on naive pages, slots and tiers,
//   every
//                               invariant checked after each: it aborts, or says what it went through
// The trace: keys with a system prompt each, conversations of some turns, lengths as of people (log-normal),
// Poisson arrivals. Key 0 asks as much as all others together. Time is that of a machine on which a step
// takes 20 ms, and 0.2 ms for each row.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <string_view>
#include <utility>

#include "engine/scheduler.h"
#include "engine/testing/scheduler_workload.h"

namespace millrace {
namespace {

class NoMover final : public PageMover {
 public:
  void copy_page(Page, Page) override {}
  void copy_pane(Pane, Pane) override {}
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void bench_step() {
  constexpr int64_t kRunning = 256, kSteps = 2000;
  NoMover mover;
  Scheduler scheduler({.n_pages = 100000,
                       .page_size = 32,
                       .max_rows = 512,
                       .max_sequences = kRunning,
                       .has_prefix_cache = true},
                      mover);
  std::mt19937 random(1);
  std::vector<Sequence> sequences(kRunning + 1000);
  for (size_t i = 0; i < sequences.size(); ++i) {
    sequences[i].id = i;
    sequences[i].key = std::to_string(i % 20);
    sequences[i].tokens.resize(2000 + random() % 8000);
    for (int32_t& token : sequences[i].tokens) token = static_cast<int32_t>(random() % 100000);
    sequences[i].n_prompt = static_cast<int64_t>(sequences[i].tokens.size());
    scheduler.add(sequences[i]);  // 1,000 of them wait all the time
  }
  std::vector<double> us;
  while (us.size() < kSteps) {
    const auto begin = std::chrono::steady_clock::now();
    const auto rows = scheduler.plan();
    scheduler.commit(rows);
    const double s = seconds_since(begin);
    for (const PlannedRows& planned : rows) {
      if (planned.wants_logits()) planned.sequence->tokens.push_back(static_cast<int32_t>(random() % 100000));
    }
    if (std::ssize(rows) == kRunning) us.push_back(s * 1e6);
  }
  std::ranges::sort(us);
  fmt::print("{} running, {} waiting: plan and commit take {:.1f} us (median), {:.1f} (99 %)\n", kRunning,
             scheduler.n_waiting(), us[us.size() / 2], us[us.size() * 99 / 100]);
}

enum class Policy { shares, arrival, longest_prefix };

struct Asked {
  double arrival_s;
  std::string key;
  std::vector<int32_t> prompt;
  int64_t n_answer;
};

class Trace {
 public:
  explicit Trace(int64_t n_requests) {
    for (int64_t i = 0; i < n_requests; ++i) requests_.push_back(next());
  }
  const std::vector<Asked>& requests() const { return requests_; }

 private:
  static constexpr uint32_t kKeys = 11, kOpen = 40;  // conversations a key has open

  int64_t length(double median, double sigma, int64_t most) {
    const double n = median * std::exp(sigma * std::normal_distribution<double>()(random_));
    return std::clamp<int64_t>(static_cast<int64_t>(n), 1, most);
  }
  void extend(std::vector<int32_t>& tokens, int64_t n) {
    for (int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<int32_t>(random_() % 100000));
  }
  Asked next() {
    now_s_ += std::exponential_distribution<double>(kArrivalsPerSecond)(random_);
    const uint32_t key = random_() % 2 == 0 ? 0 : 1 + random_() % (kKeys - 1);
    std::vector<int32_t>& system = systems_[key];
    if (system.empty()) extend(system, 300);
    std::vector<int32_t>& conversation = open_[{key, random_() % kOpen}];
    if (conversation.empty() || conversation.size() > 3000 || random_() % 4 == 0) conversation = system;
    extend(conversation, length(60, 1.0, 2000));
    Asked asked{now_s_, std::to_string(key), conversation, length(120, 0.8, 800)};
    extend(conversation, asked.n_answer);  // the answer that replay() will give
    return asked;
  }

  static constexpr double kArrivalsPerSecond = 6.5;
  std::mt19937 random_{7};
  double now_s_ = 0.0;
  std::map<uint32_t, std::vector<int32_t>> systems_;
  std::map<std::pair<uint32_t, uint32_t>, std::vector<int32_t>> open_;
  std::vector<Asked> requests_;
};

// Jain, Chiu & Hawe 1984: 1 where all have the same, 1 / n where one has everything.
double jain(const std::vector<double>& shares) {
  double sum = 0.0, squares = 0.0;
  for (const double x : shares) sum += x, squares += x * x;
  return squares == 0.0 ? 1.0 : sum * sum / (static_cast<double>(shares.size()) * squares);
}

class Replay {
 public:
  Replay(const Trace& trace, Policy policy) : trace_(trace), policy_(policy) {}

  void run() {
    const auto& requests = trace_.requests();
    const auto begin = std::chrono::steady_clock::now();
    while (n_done_ < requests.size()) {
      while (n_arrived_ < requests.size() && requests[n_arrived_].arrival_s <= now_s_) arrive(n_arrived_++);
      if (policy_ == Policy::longest_prefix) hand_over();
      if (live_.empty()) {
        now_s_ = requests[n_arrived_].arrival_s;
        continue;
      }
      step();
    }
    report(seconds_since(begin));
  }

 private:
  struct Live {
    const Asked* asked;
    Sequence sequence;
    bool has_answered = false;
  };

  void arrive(size_t i) {
    const Asked& asked = trace_.requests()[i];
    auto live = std::make_unique<Live>(Live{.asked = &asked, .sequence = {}});
    live->sequence.id = i;
    live->sequence.tokens = asked.prompt;
    live->sequence.n_prompt = static_cast<int64_t>(asked.prompt.size());
    if (policy_ == Policy::shares) live->sequence.key = asked.key;
    ++n_waiting_of_[asked.key];
    if (policy_ == Policy::longest_prefix) {
      held_.push_back(&live->sequence);
    } else {
      scheduler_.add(live->sequence);
    }
    live_[i] = std::move(live);
  }

  // Of the oldest 256 that wait the scheduler sees the one of which it knows most, when it has a place.
  void hand_over() {
    if (held_.empty() || scheduler_.n_waiting() > 0) return;
    if (scheduler_.n_running() == kLimits.max_sequences) return;
    const auto known = [&](const Sequence* sequence) { return scheduler_.n_known(0, sequence->tokens); };
    const auto end = held_.begin() + std::min<ptrdiff_t>(256, std::ssize(held_));
    const auto best = std::ranges::max_element(held_.begin(), end, {}, known);
    scheduler_.add(**best);
    held_.erase(best);
  }

  void step() {
    const auto rows = scheduler_.plan();
    scheduler_.commit(rows);
    int64_t n_rows = 0;
    for (const PlannedRows& planned : rows) {
      n_rows += planned.end - planned.begin;
      rows_of_[trace_.requests()[planned.sequence->id].key] +=
          static_cast<double>(planned.end - planned.begin);
    }
    now_s_ += 0.02 + 0.0002 * static_cast<double>(n_rows);
    n_computed_ += n_rows;
    for (const PlannedRows& planned : rows) {
      if (planned.wants_logits()) advance(*live_.at(planned.sequence->id));
    }
    if (now_s_ > window_end_s_) end_window();
  }

  void advance(Live& live) {
    const Asked& asked = *live.asked;
    if (!std::exchange(live.has_answered, true)) {
      waits_s_.push_back(now_s_ - asked.arrival_s);
      waits_of_[asked.key == "0"].push_back(waits_s_.back());
      --n_waiting_of_[asked.key];
      n_cached_ += live.sequence.n_cached;
      n_prompt_ += live.sequence.n_prompt;
    }
    // What Trace continues the conversation with is of no use to a replay: any token will do.
    live.sequence.tokens.push_back(static_cast<int32_t>(random_() % 100000));
    if (static_cast<int64_t>(live.sequence.tokens.size()) < live.sequence.n_prompt + asked.n_answer) return;
    scheduler_.remove(live.sequence);
    live_.erase(live.sequence.id);
    ++n_done_;
  }

  // Shares are compared between those who have something waiting when a minute ends.
  void end_window() {
    std::vector<double> shares;
    for (const auto& [key, n] : n_waiting_of_) {
      if (n > 0) shares.push_back(rows_of_[key]);
    }
    if (shares.size() > 1) jains_.push_back(jain(shares));
    rows_of_.clear();
    window_end_s_ = now_s_ + 60.0;
  }

  static double at(std::vector<double>& values, double share) {
    std::ranges::sort(values);
    return values.empty() ? 0.0 : values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
  }

  void report(double wall_s) {
    double sum = 0.0;
    for (const double x : jains_) sum += x;
    static constexpr const char* kNames[] = {"shares of keys", "by arrival", "longest prefix"};
    fmt::print(
        "{:<15} first token after {:7.1f} s (median) {:7.1f} (95 %) {:7.1f} (99 %); of the small keys "
        "{:6.1f} "
        "{:7.1f}; Jain {:.3f}; cached {:.1f} %; {:.0f} rows/s; replayed in {:.1f} s\n",
        kNames[static_cast<int>(policy_)], at(waits_s_, 0.5), at(waits_s_, 0.95), at(waits_s_, 0.99),
        at(waits_of_[false], 0.5), at(waits_of_[false], 0.95),
        jains_.empty() ? 1.0 : sum / static_cast<double>(jains_.size()),
        100.0 * static_cast<double>(n_cached_) / static_cast<double>(n_prompt_),
        static_cast<double>(n_computed_) / now_s_, wall_s);
  }

  static constexpr Scheduler::Limits kLimits{
      .n_pages = 4096, .page_size = 32, .max_rows = 512, .max_sequences = 64, .has_prefix_cache = true};

  const Trace& trace_;
  Policy policy_;
  NoMover mover_;
  Scheduler scheduler_{kLimits, mover_};
  std::mt19937 random_{3};
  std::map<size_t, std::unique_ptr<Live>> live_;
  std::vector<Sequence*> held_;
  std::map<std::string, int64_t> n_waiting_of_;
  std::map<std::string, double> rows_of_;  // in this window
  std::map<bool, std::vector<double>> waits_of_;
  std::vector<double> waits_s_, jains_;
  double now_s_ = 0.0, window_end_s_ = 60.0;
  size_t n_arrived_ = 0, n_done_ = 0;
  int64_t n_cached_ = 0, n_prompt_ = 0, n_computed_ = 0;
};

// The settings of a run, all of them small, so that everything runs short all the time.
millrace::testing::SchedulerWorkload::Options soak_options(uint32_t seed) {
  using Tier = millrace::testing::SchedulerWorkload::Tier;
  std::mt19937 random(seed);
  Scheduler::Limits limits{.n_pages = 16 + static_cast<int64_t>(random() % 20),
                           .page_size = 4,
                           .max_rows = 1 + static_cast<int64_t>(random() % 24),
                           .max_sequences = 1 + static_cast<int64_t>(random() % 8),
                           .has_prefix_cache = random() % 4 != 0};
  if (random() % 2 == 0) {
    limits.n_slots = limits.max_sequences + 1 + static_cast<int64_t>(random() % 4);
    limits.snapshot_distance = limits.page_size * (1 + static_cast<int64_t>(random() % 3));
  }
  if (random() % 2 == 0) {
    limits.window = 1 + static_cast<int64_t>(random() % 30);
    limits.n_panes =
        Scheduler::enough_panes(limits.window, limits.page_size) + static_cast<int64_t>(random() % 16);
  }
  limits.preemption = static_cast<Preemption>(random() % 3);
  limits.n_kept_pages = 1 + static_cast<int64_t>(random() % 4);
  return {.limits = limits, .seed = seed, .tier = static_cast<Tier>(random() % 3)};
}

void soak(int64_t n_steps) {
  constexpr int64_t kRunSteps = 20000;
  const auto begin = std::chrono::steady_clock::now();
  int64_t n_preemptions = 0, n_parked = 0, n_fetched = 0;
  for (int64_t n_done = 0; n_done < n_steps; n_done += kRunSteps) {
    millrace::testing::SchedulerWorkload workload(soak_options(static_cast<uint32_t>(n_done / kRunSteps)));
    workload.run(std::min(kRunSteps, n_steps - n_done));
    n_preemptions += workload.scheduler().n_preemptions();
    n_parked += workload.scheduler().n_parked();
    n_fetched += workload.scheduler().n_fetched();
  }
  fmt::print(
      "{} steps, {} preemptions, of which {} parked, {} pages fetched: no invariant was broken, in {:.0f} "
      "s\n",
      n_steps, n_preemptions, n_parked, n_fetched, seconds_since(begin));
}

}  // namespace
}  // namespace millrace

int main(int n_args, char** args) {
  using namespace millrace;
  const std::string_view mode = n_args > 1 ? args[1] : "";
  if (mode == "step") {
    bench_step();
  } else if (mode == "trace") {
    const Trace trace(n_args > 2 ? std::atoll(args[2]) : 100000);
    for (const Policy policy : {Policy::shares, Policy::arrival, Policy::longest_prefix})
      Replay(trace, policy).run();
  } else if (mode == "soak") {
    soak(n_args > 2 ? std::atoll(args[2]) : 10000000);
  } else {
    fmt::print(stderr, "scheduler_bench step | trace [N] | soak [N]\n");
    return 2;
  }
  return 0;
}
