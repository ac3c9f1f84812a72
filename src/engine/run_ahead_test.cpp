// Where the backend computes later, a step is begun before the tokens of the one before are known: answers
// are those of steps one by one, whoever ends, joins, is cancelled or preempted meanwhile.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "backend/cuda/backend.h"
#include "backend/cuda/emulation/device.h"
#include "backend/cuda/text/compute.inl"
#include "backend/token_truncation.h"
#include "base/temporary_folder.h"
#include "engine/testing/hash_model.h"
#include "grammar/gbnf.h"
#include "grammar/grammar.h"
#include "grammar/testing/list_tokenizer.h"
#include "model/testing/tiny_models.h"
#include "model/weights_of.h"

namespace millrace {
namespace {

using namespace millrace::testing;
using cuda::emulated::EmulatedDevice;

// Runs another backend, and says whether it computes later. Counts steps, and those that took tokens from the
// step before. What `forgets`, in the program's memory, now and then does not tell a token that top_p or
// min_p alone leave to be drawn.
class Counted final : public Backend {
 public:
  Counted(Backend& inner, bool computes_later, bool forgets = false)
      : inner_(inner), computes_later_(computes_later), forgets_(forgets) {}

  std::string_view name() const override { return inner_.name(); }
  void run(const Op& op) override {
    n_begun += std::holds_alternative<TopLogits>(op) ? 1 : 0;
    n_ahead += std::holds_alternative<FeedTokens>(op) ? 1 : 0;
    inner_.run(op);
    if (const auto* draw = std::get_if<DrawTokens>(&op); draw != nullptr && forgets_) forget(*draw);
  }
  bool computes_later() const override { return computes_later_; }
  bool can_record() const override { return inner_.can_record(); }
  std::unique_ptr<Recording> record(const std::function<void()>& ops) override { return inner_.record(ops); }
  Memory& memory() override { return inner_.memory(); }
  void hold(std::span<const Tensor> weights) override { inner_.hold(weights); }

  int64_t n_begun = 0, n_ahead = 0, n_forgotten = 0;

 private:
  void forget(const DrawTokens& draw) {
    for (int64_t row = 0; row < draw.tokens.dim(0); ++row) {
      const Truncation truncation = truncation_of(draw.truncations.f32() + 3 * row);
      if (truncation.top_k > 0 || truncation.keeps_all() || ++n_drawn_ % 20 != 7) continue;
      draw.tokens.i32()[row] = -1;
      ++n_forgotten;
    }
  }

  Backend& inner_;
  bool computes_later_, forgets_;
  int64_t n_drawn_ = 0;
};

std::shared_ptr<const Grammar> digits_grammar(int64_t n_vocab) {
  static std::map<int64_t, ListTokenizer> tokenizers;  // which outlive the grammars
  std::vector<std::string> pieces;
  for (int64_t i = 0; i < n_vocab; ++i) pieces.push_back(fmt::format("{} ", i));
  const ListTokenizer& tokenizer = tokenizers.try_emplace(n_vocab, std::move(pieces)).first->second;
  return std::make_shared<const Grammar>(parse_gbnf("root ::= ([0-9] [02468]? \" \")+"),
                                         std::make_shared<const TokenTrie>(tokenizer));
}

struct Traffic {
  Request request;
  size_t cancelled_after = 0;  // events; 0: it goes on to its end
};

// Most draw what a device can draw by itself.
std::vector<Traffic> mixed_traffic(int n_requests, int64_t max_tokens, int64_t n_vocab) {
  std::mt19937 random(5);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  std::vector<Traffic> all;
  for (int i = 0; i < n_requests; ++i) {
    Traffic traffic;
    Request& request = traffic.request;
    const int64_t n_tokens = 1 + below(max_tokens), n_shared = below(n_tokens);
    for (int64_t k = 0; k < n_tokens; ++k)
      request.prompt.push_back(static_cast<int32_t>(k < n_shared ? k % 7 : below(n_vocab)));
    request.max_tokens = below(max_tokens);
    request.sampling.temperature = i % 2 == 0 ? 0.0f : 0.8f;
    request.sampling.seed = static_cast<uint64_t>(i);
    request.end_tokens = {4, 17, 23};
    request.ignore_end = i % 3 == 1;
    request.priority = i % 7 == 0 ? 1 : 0;
    switch (i % 24) {
      case 1:
        request.sampling.top_k = 20;
        request.sampling.top_p = 0.95f;
        break;
      case 3:
        request.sampling.top_p = 0.7f;
        break;
      case 5:
        request.sampling.min_p = 0.1f;
        break;
      case 7:
        request.sampling.repetition_penalty = 1.3f;
        break;
      case 9:
        request.n_logprobs = 2;
        break;
      case 11:
        request.n_prompt_logprobs = 1;
        break;
      case 13:
        request.n = 2;
        break;
      case 14:
        request.grammar = digits_grammar(n_vocab);
        break;
      case 15:
        request.sampling.top_p = 0.95f;
        break;
      case 17:
        request.sampling.top_k = 5;
        break;
      case 21:
        request.sampling.top_p = 0.89f;  // of a row of HashModel, about what its largest logits have
        request.sampling.min_p = 0.02f;
        break;
      default:
        break;
    }
    if (i % 9 == 5) {
      traffic.cancelled_after = static_cast<size_t>(1 + below(10));
      request.ignore_end = true;
      request.max_tokens = -1;
    }
    request.ignore_end &= request.grammar == nullptr;
    all.push_back(std::move(traffic));
  }
  return all;
}

struct Outcome {
  Answer answer;
  std::vector<std::pair<int32_t, float>> logprobs;
};

Engine::Ticket submit(Engine& engine, const Traffic& traffic) {
  Engine::Submitted submitted = engine.submit(traffic.request);
  EXPECT_EQ(submitted.refusal, "");
  return submitted.ticket.value();
}

std::vector<Outcome> outcomes_of(Engine& engine, const Engine::Ticket& ticket, const Traffic& traffic) {
  std::vector<Outcome> outcomes(static_cast<size_t>(traffic.request.n));
  size_t n_events = 0;
  while (const auto event = ticket.events->pop()) {
    Outcome& outcome = outcomes.at(static_cast<size_t>(event->index));
    if (event->token) outcome.answer.tokens.push_back(*event->token);
    if (event->logprobs) outcome.logprobs.emplace_back(event->logprobs->rank, event->logprobs->chosen);
    for (const TokenLogprobs& one : event->prompt_logprobs)
      outcome.answer.prompt_logprobs.emplace_back(one.best.front().first, one.chosen);
    if (event->finish_reason) outcome.answer.reason = *event->finish_reason;
    outcome.answer.usage = event->usage;
    EXPECT_EQ(event->usage.n_generated, std::ssize(outcome.answer.tokens));
    EXPECT_EQ(event->error, "");
    if (++n_events == traffic.cancelled_after) engine.cancel(ticket.id);
  }
  return outcomes;
}

// What each answers alone, step by step.
class Alone {
 public:
  Alone(const Model& model, Backend& backend, const Engine::Options& options, std::vector<Traffic> traffic)
      : model_(model), options_(options), traffic_(std::move(traffic)) {
    Counted one_by_one(backend, false);
    Engine::Options plain = options;
    plain.has_prefix_cache = false;
    for (const Traffic& each : traffic_) {
      Engine engine(model, one_by_one, plain);
      expected_.push_back(outcomes_of(engine, submit(engine, each), {.request = each.request}));
    }
    EXPECT_EQ(one_by_one.n_ahead, 0);
  }

  const Engine::Options& options() const { return options_; }

  // All at once.
  Engine::Stats expect_same(Backend& backend, const Engine::Options& options) const {
    Counted ahead(backend, true);
    return expect_same(ahead, options);
  }
  Engine::Stats expect_same(Counted& ahead, const Engine::Options& options) const {
    Engine::Stats stats;
    {
      Engine engine(model_, ahead, options);
      std::vector<Engine::Ticket> tickets;
      for (const Traffic& each : traffic_) tickets.push_back(submit(engine, each));
      for (size_t i = 0; i < tickets.size(); ++i) {
        SCOPED_TRACE(fmt::format("request {}", i));
        expect_same(outcomes_of(engine, tickets[i], traffic_[i]), expected_[i],
                    traffic_[i].cancelled_after > 0);
      }
      stats = engine.stats();
    }
    EXPECT_GT(ahead.n_ahead, 0);
    return stats;
  }

 private:
  static void expect_same(const std::vector<Outcome>& actual, const std::vector<Outcome>& expected,
                          bool may_be_cancelled) {
    for (size_t index = 0; index < expected.size(); ++index) {
      const Answer &a = actual[index].answer, &e = expected[index].answer;
      if (may_be_cancelled && a.reason == FinishReason::cancelled) {
        ASSERT_LE(a.tokens.size(), e.tokens.size());
        EXPECT_TRUE(std::ranges::equal(a.tokens, std::span(e.tokens).first(a.tokens.size())));
        continue;
      }
      EXPECT_EQ(a.reason, e.reason);
      EXPECT_EQ(a.tokens, e.tokens);
      EXPECT_EQ(actual[index].logprobs, expected[index].logprobs);
      EXPECT_EQ(a.prompt_logprobs, e.prompt_logprobs);
    }
  }

  const Model& model_;
  Engine::Options options_;
  std::vector<Traffic> traffic_;
  std::vector<std::vector<Outcome>> expected_;
};

Engine::Options options_of(int64_t n_ctx, Dtype kv_dtype) {
  return {.n_ctx = n_ctx,
          .n_kv_positions = 20 * n_ctx,
          .page_size = 4,
          .max_rows = 24,
          .max_sequences = 6,
          .kv_dtype = kv_dtype,
          .n_snapshots = 3,
          .snapshot_distance = 8};
}

void expect_same_of_hashes(const Model& model) {
  NoBackend backend;
  const Alone alone(model, backend, options_of(160, Dtype::f32),
                    mixed_traffic(80, 60, model.shape().n_vocab));
  Engine::Options options = alone.options();
  alone.expect_same(backend, options);
  options.has_prefix_cache = false;
  alone.expect_same(backend, options);
  options.has_prefix_cache = true;
  options.n_kv_positions = options.n_ctx;  // they preempt each other
  EXPECT_GT(alone.expect_same(backend, options).n_preemptions, 0);
  options.tier = {.memory_bytes = 64 << 20, .n_kept_tokens = 4};
  options.preemption = Preemption::park;
  EXPECT_GT(alone.expect_same(backend, options).n_pages_fetched, 0);
  const TemporaryFolder folder;
  options.tier.dir = folder.path();
  options.tier.disk_bytes = int64_t{1} << 30;
  options.n_kv_positions = 4 * options.n_ctx;
  alone.expect_same(backend, options);
  EXPECT_GT(alone.expect_same(backend, options).n_pages_fetched, 0);
}

TEST(RunAhead, TokensInPagesAreTheSame) { expect_same_of_hashes(HashModel()); }
TEST(RunAhead, TokensInStatesAreTheSame) { expect_same_of_hashes(StateModel()); }
TEST(RunAhead, TokensInAWindowAreTheSame) { expect_same_of_hashes(WindowModel()); }

// So many that the largest logits do not tell what top_p keeps.
constexpr int64_t kFlatVocab = 300;
TEST(RunAhead, TokensInPagesAreTheSameOfFlatLogits) { expect_same_of_hashes(HashModel(kFlatVocab)); }
TEST(RunAhead, TokensInAWindowAreTheSameOfFlatLogits) { expect_same_of_hashes(WindowModel(kFlatVocab)); }

struct Steps {
  int64_t n_begun, n_ahead;
  std::vector<int32_t> tokens;
};

Steps steps_of(const Model& model, const Sampling& sampling, bool computes_later) {
  NoBackend backend;
  Counted counted(backend, computes_later);
  Engine engine(model, counted, options_of(160, Dtype::f32));
  const Traffic traffic{
      .request = {.prompt = {1, 2, 3}, .sampling = sampling, .max_tokens = 50, .ignore_end = true}};
  std::vector<int32_t> tokens = outcomes_of(engine, submit(engine, traffic), traffic).front().answer.tokens;
  return {counted.n_begun, counted.n_ahead, std::move(tokens)};
}

TEST(RunAhead, WhatTheLargestLogitsTellHoldsNobodyBack) {
  for (const Sampling& sampling : {Sampling{.top_k = 20, .top_p = 0.95f},
                                   {.top_k = 128},
                                   {.top_p = 0.5f},
                                   {.min_p = 0.3f},
                                   {.top_k = 64, .top_p = 0.9f, .min_p = 0.05f}}) {
    SCOPED_TRACE(fmt::format("{} {} {}", sampling.top_k, sampling.top_p, sampling.min_p));
    const HashModel model(kFlatVocab);
    const Steps ahead = steps_of(model, sampling, true), one_by_one = steps_of(model, sampling, false);
    EXPECT_EQ(ahead.tokens, one_by_one.tokens);
    EXPECT_EQ(ahead.n_begun, 50);
    EXPECT_EQ(ahead.n_ahead, 49);
  }
}

// The first token takes a step that does not tell it, one that goes on from another, and one that is waited
// for. Then nobody hopes for more.
TEST(RunAhead, WhatTheyDoNotTellIsComputedAgain) {
  const HashModel model(kFlatVocab);
  const Sampling sampling{.top_p = 0.999f};
  const Steps ahead = steps_of(model, sampling, true), one_by_one = steps_of(model, sampling, false);
  EXPECT_EQ(ahead.tokens, one_by_one.tokens);
  EXPECT_EQ(ahead.n_ahead, 1);
  EXPECT_EQ(one_by_one.n_begun, 50);
  EXPECT_EQ(ahead.n_begun, 51);
  const StateModel states(kFlatVocab);
  EXPECT_EQ(steps_of(states, sampling, true).tokens, steps_of(states, sampling, false).tokens);
  EXPECT_EQ(steps_of(states, sampling, true).n_ahead, 0);  // which cannot go back
  EXPECT_EQ(steps_of(states, {.top_k = 128}, true).n_ahead, 49);
}

// Every kind of page, where a position is written again with another token.
TEST(RunAhead, WhatIsComputedAgainIsTheSameInEveryFamily) {
  const auto backend = make_cpu_backend(1);
  for (const auto& [name, checkpoint] : tiny_models()) {
    SCOPED_TRACE(name);
    const auto model = load_model(*checkpoint);
    if (!model->shape().state_layers.empty()) continue;
    std::vector<Traffic> traffic(6);
    for (size_t i = 0; i < traffic.size(); ++i) {
      traffic[i].request = {.prompt = std::vector<int32_t>(1 + i, 3),
                            .sampling = {.temperature = 2.0f, .top_p = 0.9f, .seed = i},
                            .max_tokens = 25,
                            .ignore_end = true};
    }
    const Alone alone(*model, *backend, options_of(32, Dtype::f16), std::move(traffic));
    Counted forgetful(*backend, true, true);
    alone.expect_same(forgetful, alone.options());
    EXPECT_GT(forgetful.n_forgotten, 0);
  }
}

// The row that was computed ahead of it took some token, and is dropped with the answer.
TEST(RunAhead, WhatCannotBeDrawnEndsThatRequestAlone) {
  const UnsoundModel model;
  NoBackend backend;
  Counted ahead(backend, true);
  Engine engine(model, ahead, options_of(160, Dtype::f32));
  Request request{.prompt = {13}, .ignore_end = true};
  request.sampling.temperature = 0.0f;
  const auto failed = engine.submit(request).ticket->events->pop();
  EXPECT_EQ(failed->finish_reason, FinishReason::error);
  EXPECT_EQ(failed->usage.n_generated, 0);
}

// Throws in one of its steps.
class FailingModel final : public HashModel {
 public:
  Tensor forward(const Pass& pass) const override {
    if (!pass.arena.is_measuring() && ++n_steps == 6) fail(ErrorKind::runtime, "no more memory");
    return HashModel::forward(pass);
  }
  mutable int n_steps = 0;
};

TEST(RunAhead, AStepThatFailsIsOfAllAndTheEngineGoesOn) {
  const FailingModel model;
  NoBackend backend;
  Counted ahead(backend, true);
  Engine engine(model, ahead, options_of(160, Dtype::f32));
  const Traffic traffic{.request = {.prompt = {1, 2, 3}, .max_tokens = 9, .ignore_end = true}};
  const Engine::Ticket ticket = submit(engine, traffic);
  std::vector<int32_t> tokens;
  while (const auto event = ticket.events->pop()) {
    if (event->token) tokens.push_back(*event->token);
    EXPECT_EQ(event->usage.n_generated, std::ssize(tokens));
    if (event->finish_reason) {
      EXPECT_EQ(event->error, "no more memory");
    }
  }
  EXPECT_EQ(tokens.size(), 4u);  // that of the step before the one that failed is lost with it
  const Outcome whole = outcomes_of(engine, submit(engine, traffic), traffic).front();
  EXPECT_EQ(whole.answer.reason, FinishReason::length);
  EXPECT_TRUE(std::ranges::equal(tokens, std::span(whole.answer.tokens).first(4)));
}

struct Emulation {
  Emulation() {
    auto owned = std::make_unique<EmulatedDevice>(cuda::emulated::Order::ascending);
    device = owned.get();
    backend = cuda::make_backend(std::move(owned), {.run = cuda::emulated::run, .measure_limits = nullptr});
  }
  EmulatedDevice* device;
  std::unique_ptr<Backend> backend;
};

#ifndef __SANITIZE_THREAD__  // which takes the fibers of the emulation for one endless stack
TEST(RunAhead, AnswersOfADeviceAreTheSame) {
  for (const auto& [name, checkpoint] : tiny_models()) {
    if (name != "llama" && name != "gemma3" && name != "qwen35") continue;
    SCOPED_TRACE(name);
    const auto model = load_model(*checkpoint);
    const Emulation emulation;
    emulation.backend->hold(weights_of(*model));
    const Alone alone(*model, *emulation.backend, options_of(32, Dtype::f16),
                      mixed_traffic(9, 12, model->shape().n_vocab));
    Engine::Options options = alone.options();
    alone.expect_same(*emulation.backend, options);
    options.n_kv_positions = options.n_ctx;
    alone.expect_same(*emulation.backend, options);
  }
}

// Of one request on a device: how much it had to do yet at the end of each turn of the engine.
struct Turns {
  std::vector<int64_t> n_put_off;
  int64_t n_begun;
  std::vector<int32_t> tokens;
};

Turns turns_of(const Request& request, bool computes_later) {
  const auto checkpoint = tiny_llama();
  const auto model = load_model(*checkpoint);
  const Emulation emulation;
  emulation.backend->hold(weights_of(*model));
  Counted counted(*emulation.backend, computes_later);
  Turns turns;
  Engine::Options options = options_of(32, Dtype::f16);
  options.on_events = [&] { turns.n_put_off.push_back(emulation.device->n_put_off()); };
  {
    Engine engine(*model, counted, options);
    turns.tokens = answer_of(*engine.submit(request).ticket).tokens;
  }
  turns.n_begun = counted.n_begun;
  turns.n_put_off.pop_back();  // that of the end of the engine
  return turns;
}

TEST(RunAhead, ATokenIsOutWhileTheNextStepIsComputed) {
  for (const Sampling& sampling : {Sampling{.temperature = 0.0f}, {}, {.top_k = 20, .top_p = 0.95f}}) {
    const Request request{.prompt = {1, 2, 3}, .sampling = sampling, .max_tokens = 8, .ignore_end = true};
    const Turns ahead = turns_of(request, true), one_by_one = turns_of(request, false);
    EXPECT_EQ(ahead.tokens, one_by_one.tokens);
    EXPECT_EQ(one_by_one.n_put_off, std::vector<int64_t>(8, 0));
    ASSERT_EQ(ahead.n_put_off.size(), 9u);  // the last token comes when there is nothing to begin
    EXPECT_EQ(ahead.n_put_off.back(), 0);
    for (size_t i = 0; i < 8; ++i) EXPECT_GT(ahead.n_put_off[i], 0);
    EXPECT_EQ(ahead.n_begun, 8);  // the length of an answer is known before
  }
}

TEST(RunAhead, OfAnAnswerThatEndsByATokenARowIsWasted) {
  Request request{.prompt = {1, 2, 3}, .max_tokens = 8, .ignore_end = true};
  request.sampling.temperature = 1.0f;
  request.end_tokens = {turns_of(request, false).tokens[4]};
  request.ignore_end = false;
  const Turns ahead = turns_of(request, true), one_by_one = turns_of(request, false);
  EXPECT_EQ(ahead.tokens, one_by_one.tokens);
  EXPECT_EQ(ahead.n_begun, one_by_one.n_begun + 1);
}

#endif

}  // namespace
}  // namespace millrace
