// A request gives the same tokens alone and among others, its prompt whole or in chunks, its prefix computed,
// cached, or fetched from memory or from the disk of an engine that is gone, preempted, parked or not. On
// hashes, and on tiny models of each kind of layer with pages of each type.
//
// With MILLRACE_LONG_TESTS=1 in the environment there are 64 requests of 1 to 4,000 tokens, and each model
// has pages of each type: some minutes. With MILLRACE_TEST_MODEL=FILE also the model of that file is tested.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "backend/op_shapes.h"  // page_types
#include "base/temporary_folder.h"
#include "checkpoint/gguf.h"
#include "engine/testing/hash_model.h"
#include "model/testing/tiny_models.h"

namespace millrace {
namespace {

using namespace millrace::testing;

struct Load {
  int n_requests;
  int64_t max_prompt, max_answer, n_ctx, page_size, max_rows, max_sequences;
};

bool is_long() { return std::getenv("MILLRACE_LONG_TESTS") != nullptr; }

const Load& load() {
  static constexpr Load kShort{.n_requests = 40,
                               .max_prompt = 80,
                               .max_answer = 60,
                               .n_ctx = 160,
                               .page_size = 4,
                               .max_rows = 24,
                               .max_sequences = 8};
  static constexpr Load kLong{.n_requests = 64,
                              .max_prompt = 4000,
                              .max_answer = 300,
                              .n_ctx = 4100,
                              .page_size = 8,
                              .max_rows = 512,
                              .max_sequences = 24};
  return is_long() ? kLong : kShort;
}

// Greedy and drawn, penalised, of two keys and two priorities, one or three answers; many begin alike.
std::vector<Request> mixed_requests(int64_t n_vocab) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> uniform;
  std::vector<Request> requests;
  for (int i = 0; i < load().n_requests; ++i) {
    Request request;
    const auto max = static_cast<double>(load().max_prompt);
    // As many short ones as long ones; of the longest there is one.
    const auto n_tokens =
        i == 0 ? load().max_prompt : static_cast<int64_t>(std::exp(uniform(random) * std::log(max)));
    const auto n_shared = static_cast<int64_t>(static_cast<double>(n_tokens) * uniform(random));
    for (int64_t k = 0; k < n_tokens; ++k) {
      const auto own = static_cast<int32_t>(random() % static_cast<uint64_t>(n_vocab));
      request.prompt.push_back(k < n_shared ? static_cast<int32_t>(k % 7) : own);
    }
    request.max_tokens = static_cast<int64_t>(random() % static_cast<uint64_t>(load().max_answer));
    request.sampling.temperature = i % 2 == 0 ? 0.0f : 0.8f;
    request.sampling.seed = static_cast<uint64_t>(i);
    request.sampling.mirostat = i % 5 == 1 ? 2 : 0;
    request.sampling.repetition_penalty = i % 3 == 0 ? 1.3f : 1.0f;
    request.end_tokens = {4};
    request.ignore_end = i % 3 == 1;
    request.n = i % 4 == 2 ? 3 : 1;
    request.n_prompt_logprobs = i % 5 == 2 ? 1 : -1;
    request.priority = i % 7 == 0 ? 1 : 0;
    request.key = i % 3 == 0 ? "a" : "b";
    requests.push_back(request);
  }
  return requests;
}

Engine::Options plain_options(Dtype kv_dtype) {
  return {.n_ctx = load().n_ctx,
          .n_kv_positions = load().n_ctx,  // just enough for one: they preempt each other
          .page_size = load().page_size,
          .max_rows = load().max_rows,
          .max_sequences = load().max_sequences,
          .kv_dtype = kv_dtype,
          .n_snapshots = 3,
          .snapshot_distance = 2 * load().page_size - 1};  // whole pages
}

// Each answer of a request by itself.
std::vector<Answer> answers_alone(const Model& model, Backend& backend, Engine::Options options,
                                  const Request& request) {
  std::vector<Answer> alone;
  const uint64_t seed = request.sampling.seed;
  options.has_prefix_cache = false;
  for (int index = 0; index < request.n; ++index) {
    Request one = request;
    one.n = 1;
    one.sampling.seed = seed_of_choice(seed, index);
    Engine engine(model, backend, options);
    alone.push_back(answer_of(*engine.submit(one).ticket));
  }
  return alone;
}

class Comparison {
 public:
  Comparison(const Model& model, Backend& backend, Dtype kv_dtype)
      : model_(model),
        backend_(backend),
        kv_dtype_(kv_dtype),
        requests_(mixed_requests(model.shape().n_vocab)) {
    for (const Request& request : requests_)
      alone_.push_back(answers_alone(model, backend, options(), request));
  }

  Engine::Options options() const { return plain_options(kv_dtype_); }

  // All requests at once, so many times.
  Engine::Stats expect_same(const Engine::Options& options, int n_rounds = 1) const {
    Engine engine(model_, backend_, options);
    for (int round = 0; round < n_rounds; ++round) {
      std::vector<Engine::Ticket> tickets;
      for (const Request& request : requests_) tickets.push_back(*engine.submit(request).ticket);
      for (size_t i = 0; i < requests_.size(); ++i) {
        const std::vector<Answer> answers = answers_of(tickets[i], requests_[i].n);
        for (size_t index = 0; index < answers.size(); ++index) {
          EXPECT_EQ(answers[index].tokens, alone_[i][index].tokens) << "request " << i << " round " << round;
          EXPECT_EQ(answers[index].reason, alone_[i][index].reason);
          EXPECT_EQ(answers[index].prompt_logprobs, alone_[i][index].prompt_logprobs);
        }
      }
    }
    return engine.stats();
  }

 private:
  const Model& model_;
  Backend& backend_;
  Dtype kv_dtype_;
  std::vector<Request> requests_;
  std::vector<std::vector<Answer>> alone_;
};

void compare_chunks_and_caches(const Comparison& comparison) {
  Engine::Options options = comparison.options();
  options.n_kv_positions = 30 * load().n_ctx;
  options.max_rows = load().n_ctx;
  comparison.expect_same(options, 2);
  options.max_rows = 3 * load().page_size / 2;
  comparison.expect_same(options);
  options.has_prefix_cache = false;
  comparison.expect_same(options);
}

void compare_preemptions(const Comparison& comparison) {
  Engine::Options options = comparison.options();
  for (const bool has_prefix_cache : {true, false}) {
    options.has_prefix_cache = has_prefix_cache;
    options.tier = {};
    options.preemption = Preemption::recompute;
    const Engine::Stats recomputed = comparison.expect_same(options);
    EXPECT_GT(recomputed.n_preemptions, 0);
    EXPECT_EQ(recomputed.n_parked, 0);
    options.tier = {.memory_bytes = 64 << 20, .n_kept_tokens = load().page_size};
    options.preemption = Preemption::park;
    const Engine::Stats parked = comparison.expect_same(options);
    EXPECT_GT(parked.n_parked, 0);
    EXPECT_GT(parked.n_pages_fetched, 0);
  }
  options.has_prefix_cache = true;
  options.tier.memory_bytes = 1;  // two pages: nearly everything that leaves is lost
  comparison.expect_same(options);
}

// The second engine finds on the disk what the first one computed; the third finds half of it damaged.
void compare_restarts(const Comparison& comparison) {
  const TemporaryFolder folder;
  Engine::Options options = comparison.options();
  options.n_kv_positions = 4 * load().n_ctx;
  options.tier = {.memory_bytes = 64 << 20,
                  .dir = folder.path(),
                  .disk_bytes = int64_t{1} << 30,
                  .n_kept_tokens = 2 * load().page_size};
  comparison.expect_same(options);
  options.max_rows = 5;
  EXPECT_GT(comparison.expect_same(options).n_pages_fetched, load().n_requests);
  int n_files = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder.path())) {
    if (file.is_regular_file() && ++n_files % 2 == 0) std::filesystem::resize_file(file, 100);
  }
  EXPECT_GT(comparison.expect_same(options).n_pages_fetched, 0);
}

void expect_cold_equals_warm(const Model& model, Backend& backend, Dtype kv_dtype = Dtype::f32) {
  const Comparison comparison(model, backend, kv_dtype);
  compare_chunks_and_caches(comparison);
  compare_preemptions(comparison);
  compare_restarts(comparison);
}

TEST(ColdEqualsWarm, OfTokensInPages) {
  NoBackend backend;
  expect_cold_equals_warm(HashModel(), backend);
}

TEST(ColdEqualsWarm, OfTokensInStates) {
  NoBackend backend;
  expect_cold_equals_warm(StateModel(), backend);
}

TEST(ColdEqualsWarm, OfTokensInAWindow) {
  NoBackend backend;
  expect_cold_equals_warm(WindowModel(), backend);
}

// Weights of the formats that a file has go through other kernels than those of tiny models.
TEST(ColdEqualsWarm, OfAModelFile) {
  const char* path = std::getenv("MILLRACE_TEST_MODEL");
  if (path == nullptr) GTEST_SKIP() << "MILLRACE_TEST_MODEL names no file";
  const auto backend = make_cpu_backend(2);
  const auto checkpoint = open_gguf(path);
  expect_cold_equals_warm(*load_model(*checkpoint), *backend, Dtype::f16);
}

struct FamilyAndType {
  std::string_view family;
  Dtype kv_dtype;
};

// Dense, sliding windows, experts, latent attention, delta nets; compressed keys, selected runs of positions,
// chunks.
std::vector<FamilyAndType> families_and_types() {
  using enum Dtype;
#ifdef MILLRACE_SANITIZED  // minutes each type there: one of each way to keep a sequence
  return {{"llama", q8_0}, {"gemma3", f16}, {"deepseek4", bf16}, {"qwen35", q4_0}};
#endif
  if (!is_long()) {
    return {{"llama", f32},      {"llama", f16},      {"llama", bf16},    {"llama", q8_0},
            {"llama", q4_0},     {"gemma3", f16},     {"gpt-oss", bf16},  {"starcoder2", q8_0},
            {"gemma3n", q4_0},   {"qwen3moe", f16},   {"deepseek2", f32}, {"deepseek2", q8_0},
            {"deepseek4", bf16}, {"deepseek4", q4_0}, {"qwen35", q8_0},   {"glm5-next", f16},
            {"llama4", q8_0}};
  }
  std::vector<FamilyAndType> all;
  for (const char* family : {"llama", "gemma3", "gpt-oss", "starcoder2", "gemma3n", "qwen3moe", "deepseek2",
                             "deepseek4", "qwen35", "glm5-next", "llama4"}) {
    for (const Dtype dtype : page_types()) all.push_back({family, dtype});
  }
  return all;
}

class OfFamily : public ::testing::TestWithParam<FamilyAndType> {};

TEST_P(OfFamily, ColdEqualsWarm) {
  const auto backend = make_cpu_backend(2);
  int n_found = 0;
  for (const auto& [name, checkpoint] : millrace::testing::tiny_models()) {
    if (name != GetParam().family) continue;
    ++n_found;
    expect_cold_equals_warm(*load_model(*checkpoint), *backend, GetParam().kv_dtype);
  }
  EXPECT_EQ(n_found, 1);
}

INSTANTIATE_TEST_SUITE_P(Tiny, OfFamily, ::testing::ValuesIn(families_and_types()), [](const auto& test) {
  std::string name = fmt::format("{}_with_{}", test.param.family, format_of(test.param.kv_dtype).name);
  std::ranges::replace(name, '-', '_');
  return name;
});

}  // namespace
}  // namespace millrace
