// Tiny encoders against the hidden states and embeddings of the reference implementation, from their folders
// and through our own GGUF: alone, in a batch, with one thread and two, through the model and through the
// engine. The numbers are near the goldens; among themselves they are the same bits.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/gguf.h"
#include "checkpoint/safetensors.h"
#include "engine/engine.h"
#include "goldens_table.h"
#include "model/hf_import.h"
#include "model/testing/driver.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;
using testing::Driver;
using testing::GoldensRow;
using testing::Rows;

constexpr double kTolerance = 1e-4;
constexpr double kBfloat16Tolerance = 5e-2;  // of products that round their operands

constexpr const char* kFolders[] = {
    "bert", "xlm_roberta", "modernbert", "qwen3_embedding", "embeddinggemma",
};

struct Prompt {
  std::string name;
  std::vector<int32_t> tokens, token_types;
};

std::vector<int32_t> ids_of(const Json& json) {
  std::vector<int32_t> ids;
  for (const Json& id : json.as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

double largest_difference(std::span<const float> found, std::span<const float> golden) {
  EXPECT_EQ(found.size(), golden.size());
  double largest = 0.0;
  for (size_t i = 0; i < std::min(found.size(), golden.size()); ++i)
    largest = std::max<double>(largest, std::fabs(found[i] - golden[i]));
  return largest;
}

class EmbeddingGoldens : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = fs::path(MILLRACE_DATA_DIR) / "goldens" / GetParam();
    if (!fs::exists(folder_)) GTEST_SKIP() << "there is no folder " << folder_;
    tensors_ = std::make_unique<SafetensorsModel>(folder_ / "golden.safetensors");
    const Json golden = Json::parse(read_file(folder_ / "golden.json", size_t{1} << 24), "golden.json");
    for (const Json& each : golden.at("prompts").as_array()) {
      const Json* types = each.find("token_type_ids");
      prompts_.push_back({each.at("name").as_string(), ids_of(each.at("input_ids")),
                          types == nullptr ? std::vector<int32_t>() : ids_of(*types)});
    }
    ASSERT_GE(prompts_.size(), 3u);
  }

  void load(const std::string& config) {
    folder_checkpoint_ = open_hf_directory(folder_, config);
    const fs::path path =
        fs::temp_directory_path() / fmt::format("millrace-embedding-{}-{}.gguf", GetParam(), ::getpid());
    write_gguf(path, *folder_checkpoint_);
    gguf_checkpoint_ = open_gguf(path);
    fs::remove(path);  // the mapping stays
    of_folder_ = load_model(*folder_checkpoint_);
    of_gguf_ = load_model(*gguf_checkpoint_);
    ASSERT_TRUE(of_folder_->shape().gives_embeddings());
  }

  // Nothing where the goldens have none of that kind for the prompt.
  std::span<const float> golden(const std::string& name) const {
    const SafetensorsTensor* tensor = tensors_->find(name);
    if (tensor == nullptr) return {};
    return {reinterpret_cast<const float*>(tensor->bytes.data()), tensor->bytes.size() / sizeof(float)};
  }

  static std::vector<float> run(const Model& model, Backend& backend, const Prompt& prompt, Pooling pooling) {
    Driver driver(model, backend, 1, std::ssize(prompt.tokens));
    driver.set_pooling(pooling);
    const Rows rows{0, prompt.tokens, prompt.token_types};
    return driver.step({&rows, 1});
  }

  // All prompts in one step, their embeddings one after another.
  std::vector<float> run_batch(Backend& backend, GoldensRow& row) const {
    Driver driver(*of_folder_, backend, prompts_.size(), 128, 7);
    driver.set_pooling(Pooling::none);
    std::vector<Rows> rows;
    for (size_t s = 0; s < prompts_.size(); ++s)
      rows.push_back({s, prompts_[s].tokens, prompts_[s].token_types});
    std::vector<float> found = driver.step(rows);
    row.step_bytes = std::max(row.step_bytes, driver.n_bytes());
    return found;
  }

  // Every row of every prompt. Returns the largest difference from the goldens; notes in `row` what is equal.
  double check_hidden_states(Backend& backend, Backend& other_threads, GoldensRow& row) const {
    double largest = 0.0;
    std::vector<float> alone;
    for (const Prompt& prompt : prompts_) {
      const std::vector<float> found = run(*of_folder_, backend, prompt, Pooling::none);
      largest = std::max(largest, largest_difference(found, golden(prompt.name + ".last_hidden_state")));
      row.is_gguf_equal &= run(*of_gguf_, backend, prompt, Pooling::none) == found;
      row.is_threaded_equal &= run(*of_folder_, other_threads, prompt, Pooling::none) == found;
      alone.insert(alone.end(), found.begin(), found.end());
    }
    row.is_batch_equal &= run_batch(backend, row) == alone;
    return largest;
  }

  // What the engine gives for all prompts at once, by the pooling.
  std::vector<std::vector<float>> embeddings(Backend& backend, Pooling pooling, int64_t max_rows) const {
    Engine engine(*of_gguf_, backend, {.max_rows = max_rows, .kv_dtype = Dtype::f32, .pooling = pooling});
    std::vector<Engine::Ticket> tickets;
    for (const Prompt& prompt : prompts_) {
      const auto submitted = engine.submit({.prompt = prompt.tokens, .token_types = prompt.token_types});
      EXPECT_TRUE(submitted.ticket) << submitted.refusal;
      tickets.push_back(*submitted.ticket);
    }
    std::vector<std::vector<float>> out;
    for (const Engine::Ticket& ticket : tickets) {
      const std::optional<Event> event = ticket.events->pop();
      EXPECT_EQ(event->finish_reason, FinishReason::stop) << event->error;
      out.push_back(event->embedding);
      EXPECT_FALSE(ticket.events->pop());
    }
    return out;
  }

  double check_pooling(Backend& backend, Pooling pooling, const std::string& golden_name) const {
    const std::vector<std::vector<float>> all = embeddings(backend, pooling, 512);
    EXPECT_EQ(embeddings(backend, pooling, 100), all) << "in other steps";
    double largest = 0.0;
    for (size_t p = 0; p < prompts_.size(); ++p) {
      const std::span<const float> expected = golden(prompts_[p].name + golden_name);
      if (!expected.empty()) largest = std::max(largest, largest_difference(all[p], expected));
    }
    return largest;
  }

  // Products with other weights are bfloat16 on a GPU.
  bool is_in_float32() const {
    return std::ranges::all_of(folder_checkpoint_->tensors(),
                               [](const NamedTensor& named) { return named.tensor.dtype == Dtype::f32; });
  }

  static void TearDownTestSuite() { print(rows_); }

  static inline std::vector<GoldensRow> rows_;  // of all families
  fs::path folder_;
  std::unique_ptr<SafetensorsModel> tensors_;
  std::vector<Prompt> prompts_;
  std::unique_ptr<Checkpoint> folder_checkpoint_, gguf_checkpoint_;
  std::unique_ptr<Model> of_folder_, of_gguf_;
};

TEST_P(EmbeddingGoldens, HiddenStatesAndEmbeddings) {
  const auto reference = make_reference_backend();
  const auto one = make_cpu_backend(1), two = make_cpu_backend(2);
  for (const char* config : {"config.json", "config_hub.json"}) {
    if (!fs::exists(folder_ / config)) continue;
    load(config);
    GoldensRow row{.family = GetParam(), .config = config, .is_greedy_equal = {}, .is_chunked_equal = {}};
    row.weight_bytes = folder_checkpoint_->n_bytes();
    row.on_reference = check_hidden_states(*reference, *reference, row);
    row.on_cpu = check_hidden_states(*two, *one, row);
    if (const auto cuda = testing::cuda_backend()) {
      cuda->hold(weights_of(*of_folder_));
      cuda->hold(weights_of(*of_gguf_));
      row.on_cuda = check_hidden_states(*cuda, *cuda, row);
      row.on_cuda = std::max(row.on_cuda, check_pooling(*cuda, Pooling::mean, ".embedding_mean"));
    }
    for (const auto& [pooling, name] : {std::pair(Pooling::mean, ".embedding_mean"),
                                        {Pooling::cls, ".embedding_cls"},
                                        {Pooling::last, ".embedding_last"}}) {
      row.on_cpu = std::max(row.on_cpu, check_pooling(*two, pooling, name));
    }
    EXPECT_LE(row.on_reference, kTolerance) << config;
    EXPECT_LE(row.on_cpu, kTolerance) << config;
    EXPECT_LE(row.on_cuda, is_in_float32() ? kTolerance : kBfloat16Tolerance) << config;
    EXPECT_TRUE(row.is_gguf_equal && row.is_batch_equal && row.is_threaded_equal)
        << config << ": not the same bits everywhere, see the table";
    rows_.push_back(row);
  }
}

// BERT's pooler is the first half of a classification head: without an output it is what rank gives.
TEST_P(EmbeddingGoldens, ScoresOfTheHead) {
  load("config.json");
  const auto backend = make_cpu_backend(1);
  if (of_folder_->shape().n_scores == 0) {
    EXPECT_THROW(Engine(*of_gguf_, *backend, {.pooling = Pooling::rank}), Error);
    return;
  }
  const std::vector<std::vector<float>> scores = embeddings(*backend, Pooling::rank, 512);
  for (size_t p = 0; p < prompts_.size(); ++p)
    EXPECT_LE(largest_difference(scores[p], golden(prompts_[p].name + ".pooler_output")), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Families, EmbeddingGoldens, ::testing::ValuesIn(kFolders),
                         [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace millrace
