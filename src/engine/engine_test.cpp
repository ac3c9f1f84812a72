// The engine on models that are hashes: what it takes, refuses, ends and counts.
#include "engine/engine.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <semaphore>
#include <thread>
#include <utility>

#include "engine/scheduler.h"
#include "engine/testing/hash_model.h"

namespace millrace {
namespace {

using namespace millrace::testing;

Engine::Options options_of(int64_t n_kv_positions, int64_t max_rows, bool has_prefix_cache) {
  return {.n_ctx = 160,
          .n_kv_positions = n_kv_positions,
          .page_size = 4,
          .max_rows = max_rows,
          .max_sequences = 8,
          .kv_dtype = Dtype::f32,
          .has_prefix_cache = has_prefix_cache,
          .n_snapshots = 3,
          .snapshot_distance = 7};  // 8: whole pages
}

void expect_cached(const Model& model, int64_t n_of_shorter) {
  NoBackend backend;
  Engine engine(model, backend, options_of(160, 64, true));
  Request request{.prompt = std::vector<int32_t>(30, 2), .max_tokens = 1, .ignore_end = true};
  EXPECT_EQ(answer_of(*engine.submit(request).ticket).usage.n_cached, 0);
  EXPECT_EQ(answer_of(*engine.submit(request).ticket).usage.n_cached, 28);
  request.prompt.resize(19);
  const int64_t n_cached = answer_of(*engine.submit(request).ticket).usage.n_cached;
  EXPECT_EQ(n_cached, n_of_shorter);
}

TEST(Engine, TheSecondTurnIsCached) {
  expect_cached(HashModel(), 18);  // down to the token: a part of a page is copied
  expect_cached(WindowModel(), 18);
  expect_cached(StateModel(), 16);  // whole pages, and a distance of snapshots
}

TEST(Engine, APromptIsScoredAsAnAnswerIs) {
  const HashModel model;
  NoBackend backend;
  for (const int64_t max_rows : {1, 5, 64}) {
    Engine engine(model, backend, options_of(160, max_rows, true));
    const Request asked{.prompt = {3, 1, 4, 1}, .max_tokens = 20, .ignore_end = true, .n_logprobs = 2};
    const Engine::Ticket ticket = *engine.submit(asked).ticket;
    Request scored{.prompt = asked.prompt, .max_tokens = 0, .n_prompt_logprobs = 2};
    std::vector<TokenLogprobs> drawn;
    while (const auto event = ticket.events->pop()) {
      scored.prompt.push_back(*event->token);
      drawn.push_back(*event->logprobs);
    }
    for (int round = 0; round < 2; ++round) {
      const auto event = engine.submit(scored).ticket->events->pop();
      EXPECT_EQ(event->usage.n_cached, 0);
      ASSERT_EQ(event->prompt_logprobs.size(), scored.prompt.size() - 1);
      for (size_t i = 0; i < drawn.size(); ++i) {
        EXPECT_EQ(event->prompt_logprobs[i + 3].chosen, drawn[i].chosen);
        EXPECT_EQ(event->prompt_logprobs[i + 3].rank, drawn[i].rank);
        EXPECT_EQ(event->prompt_logprobs[i + 3].best, drawn[i].best);
      }
    }
  }
}

// Computes a step each time that it is let, and counts the rows.
class SteppedModel final : public HashModel {
 public:
  Tensor forward(const Pass& pass) const override {
    if (!pass.arena.is_measuring()) {
      ++n_begun;
      n_rows += pass.batch.n_rows();
      may_step.acquire();
    }
    return HashModel::forward(pass);
  }
  mutable std::atomic<int64_t> n_begun = 0, n_rows = 0;
  mutable std::counting_semaphore<> may_step{0};
};

TEST(Engine, ACancelledRequestIsGoneBeforeTheNextStep) {
  const SteppedModel model;
  NoBackend backend;
  Engine engine(model, backend, options_of(160, 64, false));
  const auto wait_until = [](const auto& is_so) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!is_so() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    EXPECT_TRUE(is_so());
  };
  const Engine::Ticket ticket =
      *engine.submit({.prompt = std::vector<int32_t>(30, 2), .ignore_end = true, .n = 3}).ticket;
  model.may_step.release(2);
  wait_until([&] { return model.n_begun == 3; });
  EXPECT_GT(engine.stats().n_pages_used, 0);
  engine.cancel(ticket.id);
  model.may_step.release(1);
  for (const Answer& answer : answers_of(ticket, 3)) EXPECT_EQ(answer.reason, FinishReason::cancelled);
  wait_until([&] { return engine.stats().n_pages_used == 0 && engine.stats().n_running == 0; });
  EXPECT_EQ(model.n_begun, 3);
}

TEST(Engine, AnswersToOnePromptComputeItOnce) {
  const SteppedModel model;
  NoBackend backend;
  model.may_step.release(5);
  Engine engine(model, backend, options_of(160, 64, false));
  const Request request{.prompt = std::vector<int32_t>(30, 2), .max_tokens = 5, .ignore_end = true, .n = 5};
  const auto answers = answers_of(*engine.submit(request).ticket, 5);
  for (const Answer& answer : answers) EXPECT_EQ(answer.tokens.size(), 5u);
  EXPECT_NE(answers[0].tokens, answers[1].tokens);
  EXPECT_EQ(model.n_rows, 30 + 5 * 4) << "the last token of an answer is not computed";
  EXPECT_EQ(engine.submit({.prompt = {1}, .n = 0}).reason, RefusalReason::bad_request);
  EXPECT_EQ(engine.submit({.prompt = {1}, .n = 9}).reason, RefusalReason::bad_request);
}

TEST(Engine, ADeadlineEndsWhatRunsAndWhatWaits) {
  const HashModel model;
  NoBackend backend;
  Engine::Options options = options_of(1000000, 2, true);
  options.n_ctx = 1000000;  // answers that would take minutes
  options.max_sequences = 2;
  Engine engine(model, backend, options);
  std::vector<Engine::Ticket> tickets;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  for (int i = 0; i < 4; ++i) {
    const Request request{.prompt = {1, 2}, .ignore_end = true, .n = 1 + i % 2, .deadline = deadline};
    tickets.push_back(*engine.submit(request).ticket);
  }
  for (const Engine::Ticket& ticket : tickets) {
    for (const Answer& answer : answers_of(ticket, 2)) {
      if (answer.usage.n_prompt == 0) continue;  // one that was not asked for
      EXPECT_EQ(answer.reason, FinishReason::deadline);
    }
  }
}

TEST(Engine, CancelledRequestsEndAndFreeTheirPages) {
  const HashModel model;
  NoBackend backend;
  Engine engine(model, backend, options_of(160, 64, true));
  for (int i = 0; i < 200; ++i) {
    Request request{.prompt = {1, 2, 3, i % 40}, .ignore_end = true};
    const Engine::Ticket ticket = *engine.submit(request).ticket;
    if (i % 2 == 0) ticket.events->pop();
    engine.cancel(ticket.id);
    const Answer answer = answer_of(ticket);
    EXPECT_TRUE(answer.reason == FinishReason::cancelled || answer.reason == FinishReason::length);
  }
  engine.cancel(123456);  // unknown: ignored
  EXPECT_EQ(
      answer_of(*engine.submit({.prompt = {1}, .max_tokens = 2, .ignore_end = true}).ticket).tokens.size(),
      2u);
}

TEST(Engine, OneAnswerIsCancelledAndTheOthersGoOn) {
  const HashModel model;
  NoBackend backend;
  Engine::Options options = options_of(20000, 64, false);
  options.n_ctx = 5000;
  Engine engine(model, backend, options);
  const Request request{.prompt = {1, 2, 3}, .max_tokens = 4000, .ignore_end = true, .n = 3};
  const auto whole = answers_of(*engine.submit(request).ticket, 3);
  const Engine::Ticket ticket = *engine.submit(request).ticket;
  ticket.events->pop();  // they have begun
  engine.cancel(ticket.id, 1);
  const auto answers = answers_of(ticket, 3);
  EXPECT_EQ(answers[1].reason, FinishReason::cancelled);
  EXPECT_LT(answers[1].tokens.size(), 4000u);
  for (const size_t index : {0, 2}) {
    EXPECT_EQ(answers[index].reason, FinishReason::length);
    EXPECT_EQ(answers[index].tokens.back(), whole[index].tokens.back());
  }
}

TEST(Engine, WhatCannotBeDrawnEndsThatRequestAlone) {
  const UnsoundModel model;
  NoBackend backend;
  Engine engine(model, backend, options_of(160, 64, true));
  Request sound{.prompt = {1, 2}, .max_tokens = 1, .ignore_end = true};
  const auto bad = engine.submit({.prompt = {1, 13}}), good = engine.submit(sound);
  const std::optional<Event> event = bad.ticket->events->pop();
  EXPECT_EQ(event->finish_reason, FinishReason::error);
  EXPECT_NE(event->error.find("NaN"), std::string::npos);
  EXPECT_EQ(answer_of(*good.ticket).reason, FinishReason::length);
  for (int32_t token = 0; token < kVocab; ++token) sound.sampling.logit_bias.emplace_back(token, -INFINITY);
  EXPECT_EQ(answer_of(*engine.submit(sound).ticket).reason, FinishReason::error);
}

TEST(Engine, AnEndedRequestLeavesTheQueueBeforeItsClientKnows) {
  const HashModel model;
  NoBackend backend;
  Engine::Options options = options_of(160, 64, true);
  options.max_waiting = 1;
  options.max_sequences = 1;
  Engine engine(model, backend, options);
  const Request request{.prompt = {1}, .max_tokens = 1, .ignore_end = true};
  const auto submit_two = [&] { return std::pair(engine.submit(request), engine.submit(request)); };
  for (int i = 0; i < 500; ++i) {
    const auto [first, second] = submit_two();
    ASSERT_TRUE(first.ticket && second.ticket) << first.refusal << second.refusal;
    answer_of(*first.ticket);
    answer_of(*second.ticket);
  }
}

TEST(Engine, DestructionCancelsWhatIsLeft) {
  const HashModel model;
  NoBackend backend;
  std::vector<Engine::Ticket> tickets;
  {
    Engine::Options options = options_of(100000, 2, true);
    options.n_ctx = 100000;  // answers that would take minutes
    Engine engine(model, backend, options);
    for (int i = 0; i < 20; ++i)
      tickets.push_back(*engine.submit({.prompt = std::vector<int32_t>(100, i), .ignore_end = true}).ticket);
  }
  for (const Engine::Ticket& ticket : tickets) EXPECT_EQ(answer_of(ticket).reason, FinishReason::cancelled);
}

TEST(Engine, RefusesWithTheNumbers) {
  const HashModel model;
  NoBackend backend;
  Engine engine(model, backend, options_of(160, 4, true));
  EXPECT_NE(engine.submit({.prompt = {}}).refusal, "");
  EXPECT_NE(engine.submit({.prompt = {50}}).refusal.find("50"), std::string::npos);
  EXPECT_NE(engine.submit({.prompt = {-1}}).refusal, "");
  EXPECT_NE(
      engine.submit({.prompt = {1}, .sampling = {.temperature = std::nanf("")}}).refusal.find("temperature"),
      std::string::npos);
  EXPECT_NE(engine.submit({.prompt = {1}, .max_tokens = -2}).refusal, "");
  EXPECT_NE(engine.submit({.prompt = {1}, .n_logprobs = -5}).refusal, "");
  const auto too_long = engine.submit({.prompt = std::vector<int32_t>(160, 1)});
  EXPECT_NE(too_long.refusal.find("160"), std::string::npos);
  EXPECT_EQ(too_long.reason, RefusalReason::over_context);
}

TEST(Engine, AFullQueueRefuses) {
  const HashModel model;
  NoBackend backend;
  Engine::Options options = options_of(100000, 4, true);
  options.n_ctx = 100000;  // answers that would take minutes: none ends while it is looked at
  options.max_waiting = 1;
  options.max_sequences = 1;
  Engine engine(model, backend, options);
  const Request request{.prompt = {1}, .ignore_end = true};
  ASSERT_TRUE(engine.submit(request).ticket);
  ASSERT_TRUE(engine.submit(request).ticket);
  const auto refused = engine.submit(request);
  EXPECT_NE(refused.refusal.find("queue is full"), std::string::npos);
  EXPECT_EQ(refused.reason, RefusalReason::queue_full);
  EXPECT_GE(refused.retry_after_s, 1.0);
}

TEST(Engine, AKeyMayAskSoOften) {
  const HashModel model;
  NoBackend backend;
  Engine::Options options = options_of(160, 4, true);
  options.max_requests_per_minute = 2;
  Engine engine(model, backend, options);
  const Request request{.prompt = {1}, .max_tokens = 1, .key = "a"};
  EXPECT_TRUE(engine.submit(request).ticket);
  EXPECT_TRUE(engine.submit(request).ticket);
  const auto refused = engine.submit(request);
  EXPECT_FALSE(refused.ticket);
  EXPECT_EQ(refused.reason, RefusalReason::rate);
  EXPECT_GT(refused.retry_after_s, 0.0);
  EXPECT_TRUE(engine.submit({.prompt = {1}, .max_tokens = 1, .key = "b"}).ticket);
}

TEST(Engine, ThePlanIsWhatIsAllocated) {
  const HashModel model;
  NoBackend backend;
  const Engine::Options options = options_of(160, 8, true);
  const Engine engine(model, backend, options);
  EXPECT_EQ(Engine::plan(model, options).kv_bytes, engine.memory().kv_bytes);
  EXPECT_EQ(engine.memory().kv_bytes, 160 * 2 * 4);
  const int64_t n_activation_bytes = 8 * kVocab * 4 / 64 * 64;
  EXPECT_GT(engine.memory().arena_bytes, n_activation_bytes);  // and the numbers of a step
  EXPECT_LT(engine.memory().arena_bytes, n_activation_bytes + (16 << 10));
}

#ifndef MILLRACE_SANITIZED  // which keeps memory of its own
// Keeps 32 KiB a position, and writes all of them.
class WideModel final : public HashModel {
 public:
  static constexpr int64_t kWidth = 4096;
  WideModel() { shape_.kv_layers = {{.n_kv_heads = 1, .k_head_dim = kWidth, .v_head_dim = kWidth}}; }
  Tensor forward(const Pass& pass) const override {
    const Batch& batch = pass.batch;
    const Tensor logits = pass.arena.take(Dtype::f32, {batch.logit_rows.dim(0), kVocab});
    if (pass.arena.is_measuring()) return logits;
    std::fill_n(logits.f32(), logits.n_elems(), 0.0f);
    const Tensor &k = pass.kv.layer(0).k, &v = pass.kv.layer(0).v;  // (n_pages, 1, page_size, kWidth)
    for (int64_t row = 0; row < batch.n_rows(); ++row) {
      const int32_t position = batch.positions.i32()[row];
      const int32_t page = batch.page_tables.i32()[position / k.dim(2)];
      const int64_t at = (page * k.dim(2) + position % k.dim(2)) * kWidth;
      std::fill_n(k.f32() + at, kWidth, 1.0f);
      std::fill_n(v.f32() + at, kWidth, 1.0f);
    }
    return logits;
  }
};

int64_t resident_bytes() {
  int64_t n_all = 0, n_resident = 0;
  std::ifstream("/proc/self/statm") >> n_all >> n_resident;
  return n_resident * ::sysconf(_SC_PAGESIZE);
}

TEST(Engine, TheProcessTakesWhatThePlanSays) {
  const WideModel model;
  NoBackend backend;
  Engine::Options options{.n_ctx = 8192, .max_rows = 512, .kv_dtype = Dtype::f32};
  const MemoryPlan plan = Engine::plan(model, options);
  const int64_t before = resident_bytes();
  Engine engine(model, backend, options);
  answer_of(*engine.submit({.prompt = std::vector<int32_t>(8191, 3), .max_tokens = 1}).ticket);
  const auto planned = static_cast<double>(plan.kv_bytes + plan.state_bytes + plan.arena_bytes);
  EXPECT_EQ(plan.kv_bytes, int64_t{256} << 20);
  EXPECT_NEAR(static_cast<double>(resident_bytes() - before), planned, planned / 100);
}
#endif

// A page holds 8 bytes of each of its 4 positions in the layer that sees all, a pane the same in the other
// one.
TEST(Engine, AWindowIsKeptForThoseThatRun) {
  const WindowModel model;
  NoBackend backend;
  Engine::Options options = options_of(16000, 64, true);
  options.n_ctx = 4000;
  options.max_sequences = 1;
  const int64_t n_panes_each = Scheduler::enough_panes(WindowModel::kWindow, 4), n_of_step = 64 / 4 + 1;
  EXPECT_EQ(Engine::plan(model, options).kv_bytes, 16000 * 8 + aligned((n_panes_each + n_of_step) * 16) * 2);
  options.max_sequences = 60;
  EXPECT_EQ(Engine::plan(model, options).kv_bytes,
            16000 * 8 + aligned((60 * n_panes_each + n_of_step) * 16) * 2);
  options.max_sequences = 1;
  Engine engine(model, backend, options);
  Request request{.prompt = std::vector<int32_t>(3000, 2), .max_tokens = 100, .ignore_end = true};
  const Answer first = answer_of(*engine.submit(request).ticket);
  EXPECT_EQ(first.usage.n_cached, 0);
  request.prompt.insert(request.prompt.end(), first.tokens.begin(), first.tokens.end());
  for (const auto& [n_tokens, n_cached] : {std::pair{3100, 3096}, {3100, 3099}}) {
    request.prompt.resize(static_cast<size_t>(n_tokens));
    request.max_tokens = 1;
    EXPECT_EQ(answer_of(*engine.submit(request).ticket).usage.n_cached, n_cached);
  }
}

TEST(Engine, NobodyWaitsForPanesWhoHasPages) {
  const WindowModel model;
  NoBackend backend;
  Engine::Options options = options_of(16000, 64, true);
  options.n_ctx = 4000;
  options.max_sequences = 60;
  Engine engine(model, backend, options);
  for (int i = 0; i < 60; ++i)
    ASSERT_TRUE(engine.submit({.prompt = std::vector<int32_t>(100, i % 7), .ignore_end = true}).ticket);
  const auto begin = std::chrono::steady_clock::now();
  while (engine.stats().n_running < 60) {
    ASSERT_EQ(engine.stats().n_preemptions, 0);
    ASSERT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
  }
}

TEST(Engine, StatesAreCountedForSequencesAndSnapshots) {
  const StateModel model;
  EXPECT_EQ(Engine::plan(model, options_of(160, 64, true)).state_bytes, 64);  // (8 + 3) floats
  Engine::Options options = options_of(160, 64, true);
  options.n_snapshots = 30;
  EXPECT_EQ(Engine::plan(model, options).state_bytes, 192);
  options.has_prefix_cache = false;
  EXPECT_EQ(Engine::plan(model, options).state_bytes, 64);
  EXPECT_EQ(Engine::plan(HashModel(), options).state_bytes, 0);
}

// An encoder whose row is (token, number of rows of its sequence, segment).
class CountingEncoder final : public Model {
 public:
  CountingEncoder() {
    shape_.family = "counting";
    shape_.n_layers = 1;
    shape_.hidden = 3;
    shape_.n_vocab = kVocab;
    shape_.n_ctx_train = 200;
    shape_.is_causal = false;
    shape_.n_embedding = 3;
    shape_.n_token_types = 2;
    shape_.pooling = Pooling::mean;
  }
  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override {
    const Batch& batch = pass.batch;
    const int64_t n_pools = batch.pool_begin.dim(0);
    const Tensor out = pass.arena.take(Dtype::f32, {n_pools, 3});
    if (pass.arena.is_measuring()) return out;
    for (int64_t i = 0; i < n_pools; ++i) {
      const int32_t begin = batch.pool_begin.i32()[i], end = batch.pool_end.i32()[i];
      double sums[3] = {};
      for (int32_t row = begin; row < end; ++row) {
        const int32_t seq = batch.seq_of_row.i32()[row];
        sums[0] += batch.tokens.i32()[row];
        sums[1] += batch.row_begin.i32()[seq + 1] - batch.row_begin.i32()[seq];
        sums[2] += batch.token_types.i32()[row];
      }
      for (int c = 0; c < 3; ++c) out.f32()[3 * i + c] = static_cast<float>(sums[c] / (end - begin));
    }
    return out;
  }

 private:
  ModelShape shape_;
};

std::vector<float> embedding_of(Engine& engine, Request request) {
  const auto submitted = engine.submit(std::move(request));
  if (!submitted.ticket) return {};
  const std::optional<Event> event = submitted.ticket->events->pop();
  EXPECT_EQ(event->finish_reason, FinishReason::stop);
  return event->embedding;
}

TEST(Engine, EmbedsWholeTextsByTheirPooling) {
  using Floats = std::vector<float>;
  const CountingEncoder model;
  NoBackend backend;
  const Request request{.prompt = {4, 6, 11}, .token_types = {0, 1, 1}, .normalises = false};
  const auto with = [&](std::optional<Pooling> pooling) {
    Engine engine(model, backend, {.max_rows = 8, .pooling = pooling});
    return embedding_of(engine, request);
  };
  EXPECT_EQ(with(std::nullopt), (Floats{7, 3, 2 / 3.0f}));  // what the model asks for
  EXPECT_EQ(with(Pooling::cls), (Floats{4, 3, 0}));
  EXPECT_EQ(with(Pooling::last), (Floats{11, 3, 1}));
  EXPECT_EQ(with(Pooling::none), (Floats{4, 3, 0, 6, 3, 1, 11, 3, 1}));
  EXPECT_THROW(with(Pooling::rank), Error);
  Engine engine(model, backend, {.max_rows = 8, .pooling = Pooling::cls});
  EXPECT_EQ(embedding_of(engine, {.prompt = {4, 1, 1}}), (Floats{4 / 5.0f, 3 / 5.0f, 0}));
}

TEST(Engine, ManyTextsShareStepsAndNoneIsDivided) {
  const CountingEncoder model;
  NoBackend backend;
  Engine engine(model, backend, {.max_rows = 8, .max_sequences = 3});
  std::vector<Engine::Ticket> tickets;
  for (int32_t i = 0; i < 50; ++i) {
    const std::vector<int32_t> tokens(static_cast<size_t>(i % 8 + 1), i % 40);
    tickets.push_back(*engine.submit({.prompt = tokens, .normalises = false}).ticket);
  }
  for (int32_t i = 0; i < 50; ++i) {
    const std::optional<Event> event = tickets[static_cast<size_t>(i)].events->pop();
    EXPECT_EQ(event->embedding,
              (std::vector<float>{static_cast<float>(i % 40), static_cast<float>(i % 8 + 1), 0}));
  }
}

TEST(Engine, RefusesTextsWithTheNumbers) {
  const CountingEncoder model;
  NoBackend backend;
  Engine engine(model, backend, {.n_ctx = 20, .max_rows = 8});
  const auto refusal = [&](Request request) { return engine.submit(std::move(request)).refusal; };
  EXPECT_NE(refusal({.prompt = std::vector<int32_t>(21, 1)}).find("20"), std::string::npos);
  EXPECT_NE(refusal({.prompt = std::vector<int32_t>(9, 1)}).find("a step computes 8"), std::string::npos);
  EXPECT_EQ(refusal({.prompt = std::vector<int32_t>(8, 1)}), "");
  EXPECT_NE(refusal({.prompt = {1}, .max_tokens = 5}), "");
  EXPECT_NE(refusal({.prompt = {1}, .token_types = {0, 1}}), "");
  EXPECT_NE(refusal({.prompt = {1}, .token_types = {2}}).find("2"), std::string::npos);
  EXPECT_THROW(Engine(model, backend, {.n_ctx = 201}), Error);  // the model has 200 positions
  const HashModel generates;
  Engine tokens(generates, backend, options_of(160, 8, true));
  EXPECT_NE(tokens.submit({.prompt = {1}, .token_types = {0}}).refusal, "");
  EXPECT_THROW(Engine(generates, backend, {.pooling = Pooling::mean}), Error);
}

class HugeModel final : public HashModel {
 public:
  HugeModel() { shape_.kv_layers[0].k_head_dim = 1 << 20; }
};

TEST(Engine, RefusesWhatDoesNotFit) {
  const HugeModel model;
  NoBackend backend;
  Engine::Options options = options_of(INT32_MAX, 8, true);
  options.n_ctx = INT32_MAX;
  try {
    Engine engine(model, backend, options);
    FAIL() << "a petabyte fits";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::does_not_fit);
    EXPECT_NE(std::string(error.what()).find("would fit"), std::string::npos);
  }
  options.n_ctx = int64_t{1} << 40;
  EXPECT_THROW(Engine(model, backend, options), Error);
  options = options_of(160, 8, true);
  options.weights_bytes = int64_t{1} << 60;
  EXPECT_THROW(Engine(model, backend, options), Error);
}

}  // namespace
}  // namespace millrace
