// A device that fails while a model runs on it: a step that lacked something ends its own requests, and the
// next ones are answered as if nothing had been; one that is lost ends the engine, and what serves it says
// so. On one device and as a rank of several.
#include <gtest/gtest.h>

#include "backend/ranks/ranks.h"
#include "engine/engine.h"
#include "engine/testing/hash_model.h"
#include "frail_backend.h"
#include "model/testing/tiny_models.h"
#include "model/weights_of.h"
#include "serve/service.h"

namespace millrace {
namespace {

using testing::FrailBackend, testing::Fault;

// A model on several of them, the last of which fails; on one alone without ranks.
class Frail {
 public:
  explicit Frail(int n_ranks) : model(load_model(*checkpoint_)) {
    std::vector<std::unique_ptr<Backend>> ranks;
    std::vector<Memory*> memories;
    for (int rank = 0; rank < n_ranks; ++rank) {
      auto each = std::make_unique<FrailBackend>(make_reference_backend());
      fault = &each->fault;
      memories.push_back(&each->memory());
      ranks.push_back(std::move(each));
    }
    backend = n_ranks == 1 ? std::move(ranks.front())
                           : make_ranks_backend(std::move(ranks),
                                                ranks::plan_ranks(recorded_for_ranks(*model), n_ranks),
                                                std::make_unique<SharedCollective>(memories));
    backend->hold({});
  }

  Engine::Options options() const { return {.n_ctx = 64, .page_size = 8, .max_rows = 16}; }

 private:
  std::unique_ptr<Checkpoint> checkpoint_ = testing::tiny_llama();

 public:
  std::unique_ptr<Model> model;
  std::atomic<Fault>* fault = nullptr;
  std::unique_ptr<Backend> backend;
};

testing::Answer ask(Engine& engine) {
  return testing::answer_of(
      *engine.submit({.prompt = {1, 2, 3, 4, 5}, .max_tokens = 6, .ignore_end = true}).ticket);
}

class LostDevice : public ::testing::TestWithParam<int> {};

TEST_P(LostDevice, WhatAStepLacksEndsItsRequestsAlone) {
  Frail frail(GetParam());
  Engine engine(*frail.model, *frail.backend, frail.options());
  const std::vector<int32_t> expected = ask(engine).tokens;
  for (int i = 0; i < 3; ++i) {
    *frail.fault = Fault::short_of_memory;
    const testing::Answer failed = ask(engine);
    EXPECT_EQ(failed.reason, FinishReason::error);
    EXPECT_EQ(failed.error, "no room for this");
    EXPECT_EQ(engine.failure(), "");
    EXPECT_EQ(ask(engine).tokens, expected);
  }
}

int health_of(Service& service, std::string& body) {
  HttpRequest request{.method = "GET", .path = "/health"};
  const Exchange::Progress progress = service.start(std::move(request), [] {})->poll();
  body = progress.head->body;
  return progress.head->status;
}

TEST_P(LostDevice, ALostOneEndsServing) {
  Frail frail(GetParam());
  Engine engine(*frail.model, *frail.backend, frail.options());
  ServedModel served{.engine = engine, .shape = frail.model->shape()};
  served.names = {"frail"};
  Service service(served, {}, {});
  std::string body;
  EXPECT_EQ(health_of(service, body), 200);
  EXPECT_FALSE(service.has_ended());
  *frail.fault = Fault::lost;
  const testing::Answer failed = ask(engine);
  EXPECT_EQ(failed.reason, FinishReason::error);
  EXPECT_EQ(failed.error, "a kernel failed");
  EXPECT_NE(engine.failure().find("the card has fallen off the bus"), std::string::npos) << engine.failure();
  const Engine::Submitted refused = engine.submit({.prompt = {1}});
  EXPECT_EQ(refused.reason, RefusalReason::device_lost);
  EXPECT_EQ(refused.refusal, engine.failure());
  EXPECT_EQ(health_of(service, body), 503);
  EXPECT_NE(body.find("the card has fallen off the bus"), std::string::npos) << body;
  EXPECT_TRUE(service.has_ended());
}

INSTANTIATE_TEST_SUITE_P(Ranks, LostDevice, ::testing::Values(1, 2, 3));

}  // namespace
}  // namespace millrace
