// The engine on a real model file, without HTTP: conversations that begin alike, and the second turn of one.
//   throughput_bench load MODEL    Poisson arrivals of conversations, lengths as of people: time to the first
//                                  token, between tokens, tokens a second
//   throughput_bench turns MODEL   one conversation, nobody beside it: the first token cold, in the next
//   turn,
//                                  and after a restart from the disk, for some lengths
//   throughput_bench restore MODEL answers that run while a long prompt comes back from the disk: the time
//                                  between their tokens before and meanwhile
// Prompts are random tokens: speed does not depend on what they say.
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "base/descriptor.h"
#include "base/temporary_folder.h"
#include "cli/loaded_model.h"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double at(std::vector<double> values, double share) {
  if (values.empty()) return 0.0;
  std::ranges::sort(values);
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

struct Settings {
  std::string mode, model;
  int64_t n_conversations = 60, n_parallel = 16, n_kv_positions = 16384, n_ctx = 4096;
  float per_second = 0.5f, scale = 1.0f;
  bool has_disk = false, drops_page_cache = false;
  std::string lengths = "1000,4000";
  ComputeOptions compute;
};

// What one of them asks and is answered, in tokens: log-normal, about as in the conversations of ShareGPT.
// The same in every run.
class Person {
 public:
  Person(const Settings& settings, int64_t n_vocab, uint32_t seed)
      : settings_(settings), n_vocab_(n_vocab), random_(seed) {}

  void extend(std::vector<int32_t>& tokens, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
      tokens.push_back(static_cast<int32_t>(random_() % static_cast<uint64_t>(n_vocab_)));
  }
  // One of four, which begin many conversations.
  std::vector<int32_t> system() {
    std::vector<int32_t> tokens;
    Person(settings_, n_vocab_, static_cast<uint32_t>(1000000 + random_() % 4)).extend(tokens, scaled(300));
    return tokens;
  }
  int64_t question() { return length(60.0, 1.1, 1500); }
  int64_t answer() { return length(150.0, 0.8, 600); }
  int64_t turns() { return 1 + static_cast<int64_t>(random_() % 4); }
  Clock::duration pause(double mean_s) {
    const std::chrono::duration<double> pause(std::exponential_distribution<double>(1.0 / mean_s)(random_));
    return std::chrono::duration_cast<Clock::duration>(pause);
  }

 private:
  int64_t scaled(double n) const { return std::max<int64_t>(1, std::lround(n * double{settings_.scale})); }
  int64_t length(double median, double sigma, double most) {
    return scaled(std::min(most, median * std::exp(sigma * std::normal_distribution<double>()(random_))));
  }

  const Settings& settings_;
  int64_t n_vocab_;
  std::mt19937 random_;
};

// Wakes one thread when any answer has news.
class News {
 public:
  void tell() {
    const std::lock_guard lock(mutex_);
    is_there_ = true;
    changed_.notify_one();
  }
  void wait_until(Clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, deadline, [this] { return is_there_; });
    is_there_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_there_ = false;
};

class LoadRun {
 public:
  LoadRun(const Settings& settings, const LoadedModel& loaded)
      : settings_(settings), n_vocab_(loaded.model->shape().n_vocab), arrivals_(settings, n_vocab_, 0) {
    Engine::Options options{.n_ctx = settings.n_ctx,
                            .n_kv_positions = settings.n_kv_positions,
                            .max_sequences = settings.n_parallel};
    if (settings.has_disk)
      options.tier = {
          .memory_bytes = int64_t{128} << 20, .dir = folder_.path(), .disk_bytes = int64_t{8} << 30};
    options.on_events = [this] { news_.tell(); };
    engine_.emplace(*loaded.model, *loaded.backend, options);
  }

  void run() {
    const auto begin = Clock::now();
    auto next_arrival = begin;
    while (n_begun_ < settings_.n_conversations || !conversations_.empty()) {
      const auto now = Clock::now();
      for (; n_begun_ < settings_.n_conversations && next_arrival <= now; ++n_begun_) {
        begin_conversation(now);
        next_arrival += arrivals_.pause(1.0 / settings_.per_second);
      }
      for (auto it = conversations_.begin(); it != conversations_.end();)
        it = advance(it->second) ? std::next(it) : conversations_.erase(it);
      news_.wait_until(std::min(Clock::now() + std::chrono::milliseconds(5), next_arrival));
    }
    report(seconds_since(begin));
  }

 private:
  struct Conversation {
    Person person;
    std::vector<int32_t> tokens{};
    int64_t n_turns_left = 0;
    bool is_first = true;
    Clock::time_point next_turn{}, asked{}, last_token{};
    std::optional<Engine::Ticket> ticket{};
    bool has_token = false;
  };

  void begin_conversation(Clock::time_point now) {
    Person person(settings_, n_vocab_, static_cast<uint32_t>(n_begun_ + 1));
    Conversation& conversation = conversations_.emplace(n_begun_, Conversation{person}).first->second;
    conversation.tokens = conversation.person.system();
    conversation.n_turns_left = conversation.person.turns();
    conversation.next_turn = now;
  }

  // False when it is over.
  bool advance(Conversation& conversation) {
    if (!conversation.ticket) {
      if (Clock::now() >= conversation.next_turn) return ask(conversation);
      return true;
    }
    while (const auto event = conversation.ticket->events->try_pop()) note(conversation, *event);
    return conversation.ticket || conversation.n_turns_left > 0;
  }

  bool ask(Conversation& conversation) {
    Person& person = conversation.person;
    person.extend(conversation.tokens, person.question());
    Request request{.prompt = conversation.tokens, .max_tokens = person.answer(), .ignore_end = true};
    const auto room = settings_.n_ctx - static_cast<int64_t>(conversation.tokens.size());
    if (room <= request.max_tokens) return false;  // its context is full
    request.sampling.temperature = 0.0f;
    conversation.asked = Clock::now();
    conversation.has_token = false;
    conversation.ticket = engine_->submit(std::move(request)).ticket;
    --conversation.n_turns_left;
    return conversation.ticket.has_value();
  }

  void note(Conversation& conversation, const Event& event) {
    if (event.token) {
      const double waited_s =
          seconds_since(conversation.has_token ? conversation.last_token : conversation.asked);
      auto& first = conversation.is_first ? cold_s_ : warm_s_;
      (std::exchange(conversation.has_token, true) ? gaps_s_ : first).push_back(waited_s);
      conversation.last_token = Clock::now();
      conversation.tokens.push_back(*event.token);
    }
    if (!event.finish_reason) return;
    n_prompt_ += event.usage.n_prompt;
    n_cached_ += event.usage.n_cached;
    n_generated_ += event.usage.n_generated;
    conversation.ticket.reset();
    conversation.is_first = false;
    conversation.next_turn = Clock::now() + conversation.person.pause(2.0);
  }

  void report(double wall_s) const {
    const auto line = [](const char* name, const std::vector<double>& values, double unit,
                         const char* unit_name) {
      fmt::print("{:<28} p50 {:8.1f}  p95 {:8.1f}  p99 {:8.1f} {} ({} of them)\n", name,
                 at(values, 0.5) * unit, at(values, 0.95) * unit, at(values, 0.99) * unit, unit_name,
                 values.size());
    };
    fmt::print("{} conversations, {} a second, {} at once, {} positions kept, lengths x {}, {}\n", n_begun_,
               settings_.per_second, settings_.n_parallel, settings_.n_kv_positions, settings_.scale,
               settings_.has_disk ? "prefixes to the disk" : "no disk");
    line("first token, first turn", cold_s_, 1e3, "ms");
    line("first token, later turns", warm_s_, 1e3, "ms");
    line("between tokens", gaps_s_, 1e3, "ms");
    fmt::print(
        "{:.1f} tokens/s generated, {:.1f} tokens/s of prompts, {:.1f} % of them cached; {:.1f} s; {} "
        "preemptions\n",
        static_cast<double>(n_generated_) / wall_s, static_cast<double>(n_prompt_) / wall_s,
        100.0 * static_cast<double>(n_cached_) / static_cast<double>(n_prompt_), wall_s,
        engine_->stats().n_preemptions);
  }

  const Settings& settings_;
  const int64_t n_vocab_;
  Person arrivals_;
  TemporaryFolder folder_;
  News news_;
  std::map<int64_t, Conversation> conversations_;
  std::vector<double> cold_s_, warm_s_, gaps_s_;
  int64_t n_begun_ = 0, n_prompt_ = 0, n_cached_ = 0, n_generated_ = 0;
  std::optional<Engine> engine_;  // last: it tells news_
};

// Seconds until the first token; the answer is added to `tokens`.
double first_token_s(Engine& engine, std::vector<int32_t>& tokens, int64_t n_answer) {
  Request request{.prompt = tokens, .max_tokens = n_answer, .ignore_end = true};
  request.sampling.temperature = 0.0f;
  const auto begin = Clock::now();
  const auto submitted = engine.submit(std::move(request));
  if (!submitted.ticket) fail(ErrorKind::usage, "{}", submitted.refusal);
  double first_s = 0.0;
  while (const auto event = submitted.ticket->events->pop()) {
    if (!event->token) continue;
    if (first_s == 0.0) first_s = seconds_since(begin);
    tokens.push_back(*event->token);
  }
  return first_s;
}

void bench_turns(const Settings& settings, const LoadedModel& loaded) {
  for (const int32_t length : parse_ids(settings.lengths, "--lengths")) {
    const TemporaryFolder folder;
    Person person(settings, loaded.model->shape().n_vocab, 1);
    const Engine::Options options{
        .n_ctx = length + 512,
        .tier = {.memory_bytes = int64_t{128} << 20, .dir = folder.path(), .disk_bytes = int64_t{64} << 30}};
    std::vector<int32_t> tokens;
    person.extend(tokens, length);
    std::vector<int32_t> again = tokens;
    double cold_s = 0.0, turn_s = 0.0;
    {
      Engine engine(*loaded.model, *loaded.backend, options);
      cold_s = first_token_s(engine, tokens, 32);
      person.extend(tokens, 40);  // the next question
      turn_s = first_token_s(engine, tokens, 1);
    }
    const auto begin = Clock::now();
    Engine engine(*loaded.model, *loaded.backend, options);
    const double start_s = seconds_since(begin);
    person.extend(again, 20);
    const double restarted_s = first_token_s(engine, again, 1);
    fmt::print(
        "{:>6} tokens: first token after {:.3f} s cold; {:.3f} s in the next turn ({:.1f} %); {:.3f} s after "
        "a "
        "restart ({:.1f} %), which took {:.3f} s besides the weights\n",
        length, cold_s, turn_s, 100.0 * turn_s / cold_s, restarted_s, 100.0 * restarted_s / cold_s, start_s);
  }
}

void print_times(const char* name, const std::vector<double>& seconds) {
  fmt::print("{:<28} p50 {:8.1f}  p95 {:8.1f}  p99 {:8.1f}  most {:8.1f} ms ({} of them)\n", name,
             at(seconds, 0.5) * 1e3, at(seconds, 0.95) * 1e3, at(seconds, 0.99) * 1e3, at(seconds, 1.0) * 1e3,
             seconds.size());
}

// Answers that go on and on, and how long it took from token to token.
class Streams {
 public:
  Streams(Engine& engine, Person person, int64_t n) : engine_(engine), streams_(static_cast<size_t>(n)) {
    for (Stream& stream : streams_) {
      Request request{.prompt = {}, .ignore_end = true};
      person.extend(request.prompt, 50);
      stream.ticket = *engine.submit(std::move(request)).ticket;
    }
  }
  ~Streams() {
    for (const Stream& stream : streams_) engine_.cancel(stream.ticket.id);
  }
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;

  std::vector<double> gaps_while(const std::function<bool()>& goes_on) {
    std::vector<double> gaps;
    while (goes_on()) {
      for (Stream& stream : streams_) {
        if (!stream.ticket.events->try_pop()) continue;
        if (stream.last != Clock::time_point{}) gaps.push_back(seconds_since(stream.last));
        stream.last = Clock::now();
      }
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return gaps;
  }

 private:
  struct Stream {
    Engine::Ticket ticket{};
    Clock::time_point last{};
  };
  Engine& engine_;
  std::vector<Stream> streams_;
};

// What lies in the folder is read from the disk again, and not from the page cache of the system.
void drop_from_page_cache(const std::filesystem::path& folder) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const Descriptor file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    ::fsync(file.get());
    ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
}

void bench_restore(const Settings& settings, const LoadedModel& loaded) {
  for (const int32_t length : parse_ids(settings.lengths, "--lengths")) {
    const TemporaryFolder folder;
    const int64_t n_ctx = length + 512;
    const Engine::Options options{
        .n_ctx = n_ctx,
        .n_kv_positions = n_ctx * (1 + settings.n_parallel),
        .tier = {.memory_bytes = int64_t{128} << 20, .dir = folder.path(), .disk_bytes = int64_t{64} << 30}};
    Person person(settings, loaded.model->shape().n_vocab, 1);
    std::vector<int32_t> tokens;
    person.extend(tokens, length);
    std::vector<int32_t> again = tokens;
    const double cold_s =
        first_token_s(*std::make_unique<Engine>(*loaded.model, *loaded.backend, options), tokens, 1);
    if (settings.drops_page_cache) drop_from_page_cache(folder.path());
    Engine engine(*loaded.model, *loaded.backend, options);
    Streams streams(engine, person, settings.n_parallel);
    const auto begin = Clock::now();
    streams.gaps_while([&] { return seconds_since(begin) < 1.0; });
    const std::vector<double> before = streams.gaps_while([&] { return seconds_since(begin) < 4.0; });
    std::atomic<bool> is_there = false;
    double restored_s = 0.0;
    std::jthread asker([&] {
      restored_s = first_token_s(engine, again, 1);
      is_there = true;
    });
    const std::vector<double> meanwhile = streams.gaps_while([&] { return !is_there; });
    asker.join();
    fmt::print(
        "{} tokens beside {} answers: first token after {:.3f} s cold and alone, {:.3f} s from the disk\n",
        length, settings.n_parallel, cold_s, restored_s);
    print_times("between tokens before", before);
    print_times("between tokens meanwhile", meanwhile);
  }
}

int run(int n_args, char** args) {
  Settings settings;
  Args declared("throughput_bench", "The engine under conversations");
  declared.positional("MODE", "load, turns or restore", settings.mode, Args::Presence::needed);
  declared.positional("MODEL", "A .gguf file or a Hugging Face folder", settings.model,
                      Args::Presence::needed);
  declared.option("--conversations", "How many arrive", settings.n_conversations);
  declared.option("--rate", "Conversations that arrive a second", settings.per_second);
  declared.option("--scale", "Times the lengths of people", settings.scale);
  declared.option("--parallel", "Answers computed at once", settings.n_parallel);
  declared.option("--kv-tokens", "Positions kept", settings.n_kv_positions);
  declared.option("--ctx", "Positions of the longest conversation", settings.n_ctx);
  declared.flag("--disk", "Of load: keep prefixes on the disk", settings.has_disk);
  declared.flag("--drop-page-cache", "Of restore: what is fetched is read from the disk itself",
                settings.drops_page_cache);
  declared.option("--lengths", "Of turns and restore: tokens of the first prompt", settings.lengths);
  settings.compute.declare(declared);
  if (!declared.parse(n_args - 1, args + 1)) return 0;
  const LoadedModel loaded = load(settings.model, settings.compute, WithTokenizer::no);
  if (settings.mode == "turns") {
    bench_turns(settings, loaded);
  } else if (settings.mode == "load") {
    LoadRun(settings, loaded).run();
  } else if (settings.mode == "restore") {
    bench_restore(settings, loaded);
  } else {
    fail(ErrorKind::usage, "the mode should be load, turns or restore, found {}", printable(settings.mode));
  }
  return 0;
}

}  // namespace
}  // namespace millrace

int main(int n_args, char** args) {
  try {
    return millrace::run(n_args, args);
  } catch (const millrace::Error& error) {
    fmt::print(stderr, "throughput_bench: {}\n", error.what());
    return static_cast<int>(error.kind());
  }
}
