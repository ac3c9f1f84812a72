// Tiny checkpoints of every family against the logits of the reference implementation, from their folders and
// through our own GGUF: whole, in chunks, in a batch, with one thread and two. The numbers are near the
// goldens; among themselves they are the same bits. Every other folder is refused. Prints a table of it all.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <optional>

#include "backend/cuda/cuda.h"
#include "backend/ranks/ranks.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "checkpoint/gguf.h"
#include "checkpoint/safetensors.h"
#include "engine/offload.h"
#include "engine/scoring.h"
#include "goldens_table.h"
#include "model/families.h"
#include "model/hf_import.h"
#include "model/testing/driver.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;
using testing::Driver;
using testing::GoldensRefusal;
using testing::GoldensRow;

constexpr double kTolerance = 1e-4;

// One line a folder.
constexpr const char* kFolders[] = {
    "llama",
    "llama3",
    "llama_yarn",
    "llama_linear_bias",
    "llama_hd128",
    "mistral",
    "ministral",
    "ministral3",
    "mistral3",
    "ministral3_vl",
    "mixtral",
    "qwen2",
    "qwen2_swa",
    "qwen3",
    "qwen3_yarn",
    "qwen3_moe",
    "qwen3_moe_hd128",
    "gemma2",
    "gemma3_text",
    "gemma3",
    "phi3",
    "phi4",
    "phi4_mini",
    "smollm3",
    "deepseek_v2_lite",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v3_noqlora",
    "deepseek_v3_realmla",
    "kimi_k2",
    "glm4_moe_lite",
    "mistral4",
    "kimi_k25",
    "deepseek_v32",
    "glm_moe_dsa",
    "glm_moe_dsa_shared",
    "qwen3_5",
    "kimi_linear",
    "glm5_next",
    "qwen3_fp8",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "granite",
    "cohere",
    "cohere2",
    "olmo2",
    "starcoder2",
    "glm4",
    "gemma3n",
    "gemma4_text",
    "gemma4_moe",
    "qwen2_moe",
    "glm4_moe",
    "minimax_m2",
    "llama4_text",
    "llama4",
    "gpt_oss",
    "gpt_oss_hd64",
    "gpt_oss_mxfp4",
    "qwen3_next",
    "qwen3_next_hd128",
    "qwen3_5_moe",
    "deepseek_v4",
};

fs::path goldens() { return fs::path(MILLRACE_DATA_DIR) / "goldens"; }

// The prompts of a family that are text, with what the reference says of them.
struct Prompt {
  std::string name;
  std::vector<int32_t> tokens, greedy;
  std::span<const float> logits;  // (n_tokens, n_vocab)
  double most_kl = 0;  // what rounded operands may cost: three times what bfloat16 costs, at least 1e-3
};

double log_of_sum(std::span<const float> logits) {
  const double max = std::ranges::max(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  return max + std::log(sum);
}

// KL(expected || found) of each row of n_vocab logits.
std::vector<double> kl_of_rows(std::span<const float> expected, std::span<const float> found,
                               size_t n_vocab) {
  std::vector<double> all;
  for (size_t row = 0; row < expected.size(); row += n_vocab) {
    const auto e = expected.subspan(row, n_vocab), f = found.subspan(row, n_vocab);
    const double e_sum = log_of_sum(e), f_sum = log_of_sum(f);
    double& kl = all.emplace_back(0.0);
    for (size_t i = 0; i < n_vocab; ++i) kl += std::exp(e[i] - e_sum) * ((e[i] - e_sum) - (f[i] - f_sum));
  }
  return all;
}

std::vector<int32_t> ids_of(const Json& json) {
  std::vector<int32_t> ids;
  for (const Json& id : json.as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

// The same numbers in float32.
class InFloat32 final : public Checkpoint {
 public:
  explicit InFloat32(const Checkpoint& inner) : inner_(inner) {
    for (const auto& [name, tensor] : inner.tensors()) tensors_.push_back({name, decoded(tensor)});
  }
  const Metadata& metadata() const override { return inner_.metadata(); }
  std::span<const NamedTensor> tensors() const override { return tensors_; }
  const Tensor* find(std::string_view name) const override {
    const auto found = std::ranges::find(tensors_, name, &NamedTensor::name);
    return found == tensors_.end() ? nullptr : &found->tensor;
  }

 private:
  Tensor decoded(const Tensor& tensor) {
    if (tensor.dtype == Dtype::f32 || tensor.dtype == Dtype::i32) return tensor;
    Tensor floats = tensor;
    floats.dtype = Dtype::f32;
    floats.data = buffers_.emplace_back(static_cast<size_t>(floats.n_bytes())).data();
    for (int64_t row = 0; row < tensor.n_rows(); ++row) {
      format_of(tensor.dtype).decode(tensor.row(row), floats.f32() + row * tensor.n_cols(), tensor.n_cols());
    }
    return floats;
  }

  const Checkpoint& inner_;
  std::vector<Buffer> buffers_;
  std::vector<NamedTensor> tensors_;
};

class Goldens : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::error);  // what is left out of a folder is said there, not in the table
    folder_ = goldens() / GetParam();
    if (!fs::exists(folder_)) GTEST_SKIP() << "there is no folder " << folder_;
    tensors_ = std::make_unique<SafetensorsModel>(folder_ / "golden.safetensors");
    const Json golden = Json::parse(read_file(folder_ / "golden.json", size_t{1} << 24), "golden.json");
    const Json::Array& kl_of_bf16 = golden.at("bfloat16_reference").at("mean_kl").as_array();
    for (const Json& each : golden.at("prompts").as_array()) {
      const std::string& name = each.at("name").as_string();
      if (!name.starts_with('p')) continue;
      const SafetensorsTensor* logits = tensors_->find(name + ".logits");
      ASSERT_NE(logits, nullptr);
      prompts_.push_back(
          {name,
           ids_of(each.at("input_ids")),
           ids_of(each.at("greedy_ids")),
           {reinterpret_cast<const float*>(logits->bytes.data()), logits->bytes.size() / sizeof(float)},
           std::max(1e-3, 3 * kl_of_bf16.at(prompts_.size()).as_double())});
    }
    ASSERT_EQ(prompts_.size(), 3u);
  }

  // The folder written to GGUF and read again; the folder read again where GGUF has not all of its formats.
  static std::unique_ptr<Checkpoint> read_again(const Checkpoint& folder, const fs::path& path,
                                                const std::string& config) {
    const bool is_of_gguf = std::ranges::all_of(folder.tensors(), [](const NamedTensor& named) {
      return gguf_dtype_of(named.tensor.dtype) == named.tensor.dtype;
    });
    return is_of_gguf ? through_gguf(folder) : open_hf_directory(path, config);
  }
  static std::unique_ptr<Checkpoint> through_gguf(const Checkpoint& folder) {
    const fs::path path =
        fs::temp_directory_path() / fmt::format("millrace-golden-{}-{}.gguf", GetParam(), ::getpid());
    write_gguf(path, folder);
    std::unique_ptr<Checkpoint> file = open_gguf(path);
    fs::remove(path);  // the mapping stays
    return file;
  }

  static std::vector<float> run(const Model& model, Backend& backend, const Prompt& prompt, size_t n_chunk,
                                Dtype kv_type = Dtype::f32) {
    Driver driver(model, backend, 1, static_cast<int64_t>(prompt.tokens.size()), 1, kv_type);
    driver.set_prompt_length(0, prompt.tokens.size());
    return driver.run(0, prompt.tokens, n_chunk);
  }

  // The prompts and two of their beginnings in one step, on shuffled pages.
  std::vector<std::vector<float>> run_batch(const Model& model, Backend& backend, GoldensRow& row,
                                            Dtype kv_type = Dtype::f32) const {
    std::vector<std::span<const int32_t>> all;
    for (const Prompt& prompt : prompts_) all.emplace_back(prompt.tokens);
    all.push_back(std::span(prompts_[1].tokens).first(20));
    all.push_back(std::span(prompts_[0].tokens).first(2));
    Driver driver(model, backend, all.size(), 128, 7, kv_type);
    std::vector<testing::Rows> rows;
    for (size_t s = 0; s < all.size(); ++s) {
      driver.set_prompt_length(s, all[s].size());
      rows.push_back({s, all[s]});
    }
    const std::vector<float> logits = driver.step(rows);
    row.step_bytes = std::max(row.step_bytes, driver.n_bytes());
    std::vector<std::vector<float>> out;
    auto at = logits.begin();
    for (const auto& tokens : all) {
      const auto n = static_cast<ptrdiff_t>(tokens.size()) * model_->shape().n_vocab;
      out.emplace_back(at, at + n);
      at += n;
    }
    return out;
  }

  bool is_greedy_equal(Backend& backend, const Prompt& prompt) const {
    Driver driver(*model_, backend, 1, static_cast<int64_t>(prompt.tokens.size() + prompt.greedy.size()));
    driver.set_prompt_length(0, prompt.tokens.size());
    std::vector<float> logits = driver.run(0, prompt.tokens, 0);
    std::vector<int32_t> found;
    const auto n_vocab = static_cast<size_t>(model_->shape().n_vocab);
    while (found.size() < prompt.greedy.size()) {
      found.push_back(testing::argmax(std::span(logits).last(n_vocab)));
      logits = driver.run(0, std::span(found).last(1), 0);
    }
    EXPECT_EQ(found, prompt.greedy) << prompt.name << " on " << backend.name();
    return found == prompt.greedy;
  }

  static bool is_same(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
  }

  // Whether the cpu backend multiplies some weights with activations of 8 bits. The goldens have float32, so
  // its logits are then compared by what bfloat16 costs.
  bool rounds_activations() const {
    return std::ranges::any_of(checkpoint_->tensors(),
                               [](const NamedTensor& named) { return named.tensor.dtype == Dtype::mxfp4; });
  }

  // KL of what was found for prompt p, as a part of what rounding may cost: the mean over its rows. Where a
  // model chooses experts, the median: rounding that flips a choice moves a row by whole logits.
  double share_of_kl(size_t p, std::span<const float> found) const {
    std::vector<double> rows =
        kl_of_rows(prompts_[p].logits, found, static_cast<size_t>(model_->shape().n_vocab));
    const auto arch = checkpoint_->metadata().need<std::string_view>("general.architecture");
    if (checkpoint_->metadata().get_or<int64_t>(fmt::format("{}.expert_count", arch), 0) > 0) {
      std::ranges::nth_element(rows, rows.begin() + std::ssize(rows) / 2);
      return rows[rows.size() / 2] / prompts_[p].most_kl;
    }
    return std::accumulate(rows.begin(), rows.end(), 0.0) / static_cast<double>(rows.size()) /
           prompts_[p].most_kl;
  }

  void expect_near_by_kl(Backend& backend) const {
    for (size_t p = 0; p < prompts_.size(); ++p)
      EXPECT_LE(share_of_kl(p, run(*model_, backend, prompts_[p], 0)), 1.0)
          << prompts_[p].name << " on " << backend.name();
  }

  static void note(std::optional<bool>& all, bool is_equal) { all = *all && is_equal; }

  // Returns the largest difference from the goldens; notes in `row` what is equal.
  double check_backend(Backend& backend, Backend& other_threads, const Model& of_gguf,
                       GoldensRow& row) const {
    double largest = 0.0;
    const std::vector<std::vector<float>> batch = run_batch(*model_, backend, row);
    for (size_t p = 0; p < prompts_.size(); ++p) {
      const Prompt& prompt = prompts_[p];
      const std::vector<float> whole = run(*model_, backend, prompt, 0);
      EXPECT_EQ(whole.size(), prompt.logits.size());
      for (size_t i = 0; i < whole.size(); ++i)
        largest = std::max<double>(largest, std::fabs(whole[i] - prompt.logits[i]));
      for (const size_t n_chunk : {1, 7, 32})
        note(row.is_chunked_equal, is_same(run(*model_, backend, prompt, n_chunk), whole));
      row.is_threaded_equal &= is_same(run(*model_, other_threads, prompt, 0), whole);
      row.is_batch_equal &= is_same(batch[p], whole);
      row.is_gguf_equal &= is_same(run(of_gguf, backend, prompt, 0), whole);
      note(row.is_greedy_equal, is_greedy_equal(backend, prompt));
    }
    return largest;
  }

  // On a GPU, or else emulated, which is slow: all prompts in a batch, one of them alone, one in chunks.
  // With float32 weights and pages products and attention are float32, otherwise rounded for tensor cores: so
  // the logits of the first are compared, and of the others what rounding costs.
  double check_cuda(GoldensRow& row, LatentForm form) const {
    const auto cuda = testing::cuda_backend();
    if (cuda == nullptr) return 0.0;
    const InFloat32 floats(*checkpoint_);
    const std::unique_ptr<Model> in_floats = load_model(floats, form);
    cuda->hold(weights_of(*in_floats));
    const double largest = largest_difference(run_batch(*in_floats, *cuda, row));

    cuda->hold(weights_of(*model_));
    const Dtype kv_type = Dtype::f16;
    const std::vector<std::vector<float>> batch = run_batch(*model_, *cuda, row, kv_type);
    row.is_batch_equal &= is_same(run(*model_, *cuda, prompts_[1], 0, kv_type), batch[1]);
    note(row.is_chunked_equal, is_same(run(*model_, *cuda, prompts_[0], 7, kv_type), batch[0]));
    for (size_t p = 0; p < prompts_.size(); ++p)
      row.kl_on_cuda = std::max(row.kl_on_cuda, share_of_kl(p, batch[p]));
    return largest;
  }

  // The same in float32 with half of the layers there, or with all of them but for their experts. A few
  // families.
  double check_split(GoldensRow& row, LatentForm form) const {
    static constexpr std::string_view kFew[] = {"llama", "qwen3_moe", "deepseek_v3", "gemma3n", "qwen3_next"};
    if (std::ranges::find(kFew, GetParam()) == std::end(kFew)) return 0.0;
    std::unique_ptr<Backend> cuda = testing::cuda_backend();
    if (cuda == nullptr) return 0.0;
    const InFloat32 floats(*checkpoint_);
    const std::unique_ptr<Model> model = load_model(floats, form);
    const int64_t n_layers = model->shape().n_layers;
    const bool keeps_experts = GetParam() == std::string_view("qwen3_moe");
    const Offload plan = plan_offload(
        *model, floats, Scorer::shape(*model, 128, 128, Dtype::f32),
        keeps_experts ? OffloadWish{.n_cpu_moe = n_layers} : OffloadWish{.n_gpu_layers = n_layers / 2},
        {*cuda, int64_t{1} << 30});
    const auto split = place(plan, std::move(cuda), [] { return make_cpu_backend(2); });
    EXPECT_EQ(split->name(), "split");
    const std::vector<std::vector<float>> batch = run_batch(*model, *split, row);
    row.is_batch_equal &= is_same(run(*model, *split, prompts_[1], 0), batch[1]);
    note(row.is_chunked_equal, is_same(run(*model, *split, prompts_[0], 7), batch[0]));
    return largest_difference(batch);
  }

  // On two ranks of the processor.
  double check_ranks(GoldensRow& row) const {
    std::vector<std::unique_ptr<Backend>> processors;
    std::vector<Memory*> memories;
    for (int rank = 0; rank < 2; ++rank)
      memories.push_back(&processors.emplace_back(make_cpu_backend(1))->memory());
    const auto ranks =
        make_ranks_backend(std::move(processors), ranks::plan_ranks(recorded_for_ranks(*model_), 2),
                           std::make_unique<SharedCollective>(memories));
    ranks->hold({});
    const std::vector<std::vector<float>> batch = run_batch(*model_, *ranks, row);
    for (size_t p = 0; p < prompts_.size(); ++p) {
      row.is_batch_equal &= is_same(run(*model_, *ranks, prompts_[p], 0), batch[p]);
      note(row.is_chunked_equal, is_same(run(*model_, *ranks, prompts_[p], 7), batch[p]));
      note(row.is_greedy_equal, is_greedy_equal(*ranks, prompts_[p]));
    }
    if (rounds_activations()) expect_near_by_kl(*ranks);
    return largest_difference(batch);
  }

  double largest_difference(const std::vector<std::vector<float>>& batch) const {
    double largest = 0.0;
    for (size_t p = 0; p < prompts_.size(); ++p) {
      for (size_t i = 0; i < batch[p].size(); ++i)
        largest = std::max<double>(largest, std::fabs(batch[p][i] - prompts_[p].logits[i]));
    }
    return largest;
  }

  GoldensRow check_config(const std::string& config, LatentForm form) {
    const auto reference = make_reference_backend();
    const auto one = make_cpu_backend(1), two = make_cpu_backend(2);
    checkpoint_ = open_hf_directory(folder_, config);
    model_ = load_model(*checkpoint_, form);
    const std::unique_ptr<Checkpoint> file = read_again(*checkpoint_, folder_, config);
    const std::unique_ptr<Model> of_file = load_model(*file, form);
    GoldensRow row{.family = GetParam(), .config = config};
    if (form == LatentForm::expanded) row.config += ", expanded";
    row.weight_bytes = checkpoint_->n_bytes();
    row.on_reference = check_backend(*reference, *reference, *of_file, row);
    row.on_cpu = check_backend(*two, *one, *of_file, row);
    // The other spelling of the config gives the same model.
    if (has_gpu() || config == "config.json") {
      row.on_cuda = check_cuda(row, form);
      row.on_split = check_split(row, form);
      row.on_ranks = check_ranks(row);
    }
    if (rounds_activations()) expect_near_by_kl(*two);
    return row;
  }

  void check_row(const GoldensRow& row) {
    EXPECT_LE(row.on_reference, kTolerance) << row.config;
    EXPECT_LE(row.on_cuda, kTolerance) << row.config;
    EXPECT_LE(row.kl_on_cuda, 1.0) << row.config;
    EXPECT_LE(row.on_split, kTolerance) << row.config;
    EXPECT_TRUE(row.on_cpu <= kTolerance || rounds_activations()) << row.config << ": " << row.on_cpu;
    EXPECT_TRUE(row.on_ranks <= kTolerance || rounds_activations()) << row.config << ": " << row.on_ranks;
    EXPECT_TRUE(row.is_gguf_equal && *row.is_chunked_equal && row.is_batch_equal && row.is_threaded_equal)
        << row.config << ": not the same bits everywhere, see the table";
    rows_.push_back(row);
  }

  static void TearDownTestSuite() { print(rows_); }

  static inline std::vector<GoldensRow> rows_;  // of all families
  fs::path folder_;
  std::unique_ptr<SafetensorsModel> tensors_;
  std::vector<Prompt> prompts_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Model> model_;
};

TEST_P(Goldens, LogitsAndGreedyTokens) {
  for (const char* config : {"config.json", "config_hub.json"}) {
    if (!fs::exists(folder_ / config)) continue;
    check_row(check_config(config, LatentForm::absorbed));
    if (family_of(checkpoint_->metadata()).has_latents) check_row(check_config(config, LatentForm::expanded));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Goldens, ::testing::ValuesIn(kFolders),
                         [](const auto& each) { return std::string(each.param); });

// The sentence that refuses the folder; nothing where it would run.
std::optional<std::string> refusal_of(const fs::path& folder) {
  try {
    const std::unique_ptr<Checkpoint> checkpoint = open_hf_directory(folder);
    load_model(*checkpoint);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model) << folder;
    return error.what();
  }
  return std::nullopt;
}

// What is not in the list is refused, never run unchecked. Folders without logits (embeddings) have a test of
// their own.
TEST(GoldensRefused, EveryOtherFolder) {
  if (!fs::exists(goldens())) GTEST_SKIP() << "there is no folder " << goldens();
  std::vector<GoldensRefusal> refusals;
  for (const auto& entry : fs::directory_iterator(goldens())) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || std::ranges::find(kFolders, name) != std::end(kFolders)) continue;
    if (SafetensorsModel(entry.path() / "golden.safetensors").find("p0.logits") == nullptr) continue;
    const auto sentence = refusal_of(entry.path());
    EXPECT_TRUE(sentence.has_value()) << name << " loads, but is not in the list of this test";
    refusals.push_back({name, sentence.value_or("NOT REFUSED")});
  }
  std::ranges::sort(refusals, {}, &GoldensRefusal::family);
  print(refusals);
}

}  // namespace
}  // namespace millrace
