// Every setting in the configs of the goldens is changed, one at a time, and plausible ones are added: the
// folder must then be refused, or load as another model. What may change without that stands in a table here,
// with the reason. A text that nobody knows is never taken for another one. Likewise the keys that GGUF has
// for them: they change the logits.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/temporary_folder.h"
#include "model/hf_import.h"
#include "model/model.h"
#include "model/testing/driver.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

// What changes no number, whatever it holds.
constexpr std::string_view kDecideNothing[] = {
    // Of training.
    "altup_coef_clip", "attention_dropout", "attention_probs_dropout_prob", "classifier_dropout",
    "embd_pdrop", "embedding_dropout", "hidden_dropout", "hidden_dropout_prob", "initializer_cutoff_factor",
    "initializer_range", "mlp_dropout", "output_router_logits", "pretraining_tp", "resid_pdrop",
    "residual_dropout", "router_aux_loss_coef", "router_jitter_noise", "sparse_pred_ignore_index",
    "sparse_prediction",
    // Of programs, files and ids, which the tokenizer says too.
    "activation_scheme", "architectures", "bos_token_id", "cls_token_id", "deterministic_flash_attn", "dtype",
    "eos_token_id", "image_token_id", "modules_to_not_convert", "pad_token_id", "sep_token_id", "torch_dtype",
    "transformers_version", "use_cache", "video_token_id", "vision_end_token_id", "vision_start_token_id",
    "vision_token_id",
    // Of heads that are not run: words and classes of ModernBERT. Layers that draft.
    "classifier_activation", "classifier_bias", "classifier_pooling", "decoder_bias",
    "num_nextn_predict_layers",
    // The tensors say it.
    "attention_bias", "attention_k_eq_v", "laurel_rank", "mlp_bias", "qkv_bias", "type_vocab_size",
    "use_bias", "use_qk_norm", "vocab_size_per_layer_input",
    // Another setting says it in all of these configs.
    "_sliding_window_pattern", "compress_rope_theta", "index_topk_pattern", "no_rope_layer_interval",
    // Flags that any number but 0 sets.
    "no_rope_layers",
    // Positions of images; in text all are one.
    "mrope_interleaved"};

// What another setting says too, with the last word, or belongs to a part that a config switches off: some
// configs may ignore it, and others must not.
constexpr std::string_view kSometimes[] = {"first_k_dense_replace",
                                           "global_attn_every_n_layers",
                                           "head_dim",
                                           "max_position_embeddings",
                                           "max_window_layers",
                                           "moe_intermediate_size",
                                           "n_group",
                                           "num_experts",
                                           "original_max_position_embeddings",
                                           "partial_rotary_factor",
                                           "query_pre_attn_scalar",
                                           "rope_local_base_freq",
                                           "rope_theta",
                                           "sliding_window",
                                           "sliding_window_pattern",
                                           "tie_word_embeddings",
                                           "top_k_experts",
                                           "topk_group",
                                           "use_double_wide_mlp",
                                           "use_sliding_window",
                                           "vocab_size"};

// Of GGUF's keys: what the tensors say, positions of images, norms that a model does not have.
constexpr std::string_view kGgufDecidesNothing[] = {"context_length", "vocab_size", "rope.dimension_sections",
                                                    "attention.layer_norm_epsilon"};
// What some models have no use for: dense layers, logits; softmax over all experts
// or over the chosen ones, whose weights are made to sum to 1 in the end.
constexpr std::string_view kGgufSometimes[] = {"expert_gating_func", "feed_forward_length",
                                               "final_logit_softcapping"};

// What other models have, or might have one day.
struct Feature {
  std::string_view key, value;
};
constexpr Feature kFeatures[] = {{"add_cross_attention", "true"},
                                 {"alibi", "true"},
                                 {"attention_chunk_size", "16"},
                                 {"attention_sink", "true"},
                                 {"attn_logit_softcapping", "30.0"},
                                 {"clip_qkv", "8.0"},
                                 {"cross_attention_layers", "[1]"},
                                 {"embedding_multiplier", "2.5"},
                                 {"final_logit_softcapping", "20.0"},
                                 {"hidden_activation", "\"relu\""},
                                 {"is_decoder", "true"},
                                 {"layer_norm_type", "\"other\""},
                                 {"layer_types", "[\"other\", \"other\", \"other\", \"other\"]"},
                                 {"logits_scaling", "3.5"},
                                 {"moe_layer_freq", "2"},
                                 {"parallel_attn", "true"},
                                 {"pruned_heads", "{\"0\": [1]}"},
                                 {"qk_layernorm", "true"},
                                 {"quantization_config", "{\"quant_method\": \"other\"}"},
                                 {"query_pre_attn_scalar", "17"},
                                 {"residual_multiplier", "0.25"},
                                 {"rope_scaling", "{\"rope_type\": \"other\", \"factor\": 2.0}"},
                                 {"rope_scaling", "{\"type\": \"dynamic\", \"factor\": 2.0}"},
                                 {"rotary_pct", "0.3"},
                                 {"scale_embedding", "true"},
                                 {"something_new", "1"},
                                 {"use_mup", "true"},
                                 {"use_qkv_bias", "true"}};

using Path = std::vector<std::string>;

Json& at(Json& config, const Path& path) {
  Json* value = &config;
  for (const std::string& key : path) value = &(*value)[key];
  return *value;
}

// Values that differ from this one; where it is nothing, of every type.
std::vector<Json> others(const Json& value) {
  if (value.is_null()) return {true, 3, "other"};
  if (value.is_bool()) return {!value.as_bool()};
  if (value.is_string()) return {"other"};
  if (value.is_int()) return {2 * value.as_int() + 1};
  if (value.is_double()) return {1.7 * value.as_double() + 0.3};
  if (!value.is_array() || value.as_array().empty()) return {};
  std::vector<Json> lists;
  for (const Json& other : others(value.as_array().front())) {
    lists.push_back(value);
    lists.back().as_array().front() = other;
  }
  return lists;
}

bool is_text(const Json& value) {
  return value.is_string() || (value.is_array() && value.as_array().front().is_string());
}

// A config, and what becomes of the folder with it.
class Settings : public ::testing::Test {
 protected:
  void SetUp() override { set_log_level(LogLevel::error); }

  // All that a loaded model depends on, but elements of matrices; nothing where the folder is refused.
  std::string loaded(const fs::path& folder, const Json& config) {
    try {
      const fs::path file = scratch_.write("config.json", config.dump());
      const std::unique_ptr<HfFolder> checkpoint = read_hf_folder(folder, file.string());
      load_model(*checkpoint);
      return text_of(*checkpoint);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_model) << error.what();
      return {};
    }
  }

  static std::string text_of(const Checkpoint& checkpoint) {
    std::string text;
    const auto add = [&text]<class T>(const T& value) {
      if constexpr (requires { value.begin(); } && !std::is_same_v<T, std::string_view>) {
        for (const auto& each : value) text += fmt::format("{},", each);
      } else {
        text += fmt::format("{}", value);
      }
    };
    for (const auto& [key, value] : checkpoint.metadata().entries()) {
      text += "\n" + key + "=";
      std::visit(add, value);
    }
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      text += fmt::format("\n{} {}", name, shape_text(tensor));
      if (tensor.n_dims == 1 && tensor.data != nullptr)
        text.append(reinterpret_cast<const char*>(tensor.data), static_cast<size_t>(tensor.n_bytes()));
    }
    return text;
  }

  void check(const fs::path& folder, const std::string& name) {
    const Json config = Json::parse(read_file(folder / name, size_t{1} << 24), name);
    const std::string before = loaded(folder, config);
    if (before.empty()) return;  // goldens_test says so
    const bool has_text = config.find("text_config") != nullptr;
    const Path root = has_text ? Path{"text_config"} : Path{};
    change_all(folder, config, root, before);
    for (const auto& [key, value] : kFeatures) {
      Path path = root;
      path.emplace_back(key);
      expect_noticed(folder, config, {path, Json::parse(value, key)}, before);
    }
  }

  struct Change {
    Path path;
    Json value;
  };

  void change_all(const fs::path& folder, const Json& config, const Path& path, const std::string& before) {
    Json copy = config;
    const Json object = at(copy, path);
    for (const auto& [key, value] : object.as_object()) {
      Path inner = path;
      inner.push_back(key);
      const bool is_of_model = key != "id2label" && key != "label2id" && key != "vision_config";
      if (value.is_object() && is_of_model) change_all(folder, config, inner, before);
      for (const Json& other : others(value)) expect_noticed(folder, config, {inner, other}, before);
    }
  }

  void expect_noticed(const fs::path& folder, const Json& config, const Change& change,
                      const std::string& before) {
    const std::string& key = change.path.back();
    if (std::ranges::find(kDecideNothing, key) != std::end(kDecideNothing)) return;
    Json changed = config;
    Json& value = at(changed, change.path);
    if (value == change.value) return;
    const bool was_text = is_text(change.value);
    value = change.value;
    const std::string after = loaded(folder, changed);
    const bool is_noticed = after != before;
    const bool is_optional = std::ranges::find(kSometimes, key) != std::end(kSometimes);
    n_noticed_[key] += is_noticed ? 1 : 0;
    EXPECT_TRUE(is_noticed || is_optional)
        << folder.filename() << ": " << key << " " << change.value.dump() << " is ignored";
    EXPECT_TRUE(after.empty() || !was_text || !is_noticed)
        << folder.filename() << ": " << key << " " << change.value.dump() << " is taken for another text";
    ++n_changes_;
  }

  TemporaryFolder scratch_;
  int64_t n_changes_ = 0;
  std::map<std::string, int64_t> n_noticed_;  // by key
};

// A checkpoint with one value of its metadata changed.
class Changed final : public Checkpoint {
 public:
  Changed(const Checkpoint& checkpoint, std::string_view key, const MetaValue& value)
      : checkpoint_(checkpoint) {
    for (const auto& [name, old] : checkpoint.metadata().entries())
      metadata_.add(name, name == key ? value : old);
  }
  const Metadata& metadata() const override { return metadata_; }
  std::span<const NamedTensor> tensors() const override { return checkpoint_.tensors(); }
  const Tensor* find(std::string_view name) const override { return checkpoint_.find(name); }

 private:
  const Checkpoint& checkpoint_;
  Metadata metadata_;
};

MetaValue other_than(const MetaValue& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return !*flag;
  if (const auto* count = std::get_if<int64_t>(&value)) return 2 * *count + 1;
  if (const auto* real = std::get_if<double>(&value)) return *real == 0.0 ? 0.3 : *real / 100.0;
  if (std::holds_alternative<std::string_view>(value)) return std::string_view("other");
  MetaValue list = value;
  if (auto* flags = std::get_if<std::vector<bool>>(&list)) flags->front() = !flags->front();
  if (auto* counts = std::get_if<std::vector<int64_t>>(&list)) counts->front() = 2 * counts->front() + 1;
  if (auto* reals = std::get_if<std::vector<double>>(&list)) {
    for (double& real : *reals) real = 0.01 + real / 100.0;
  }
  return list;
}

// The logits of a text, or nothing where the model is refused.
std::vector<float> logits_of(const Checkpoint& checkpoint, Backend& backend) {
  try {
    const std::unique_ptr<Model> model = load_model(checkpoint);
    std::vector<int32_t> tokens(70);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(3 + i * i % 89);
    testing::Driver driver(*model, backend, 1, std::ssize(tokens));
    driver.set_prompt_length(0, tokens.size());
    return driver.run(0, tokens, 0);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model) << error.what();
    return {};
  }
}

// The same of the keys that GGUF has: they change the logits, or are refused.
TEST_F(Settings, OfGgufChangeLogits) {
  const fs::path goldens = fs::path(MILLRACE_DATA_DIR) / "goldens";
  if (!fs::exists(goldens)) GTEST_SKIP() << "there is no folder " << goldens;
  const auto backend = make_cpu_backend(1);
  int64_t n_changes = 0;
  for (const auto& entry : fs::directory_iterator(goldens)) {
    if (!fs::exists(entry.path() / "config.json")) continue;
    const std::unique_ptr<HfFolder> folder = open_hf_directory(entry.path());
    const std::vector<float> before = logits_of(*folder, *backend);
    const auto prefix = std::string(folder->metadata().need<std::string_view>("general.architecture")) + ".";
    for (const auto& [key, value] : folder->metadata().entries()) {
      const std::string name = key.starts_with(prefix) ? key.substr(prefix.size()) : key;
      if (name == key && !key.starts_with("millrace.")) continue;
      if (std::ranges::find(kGgufDecidesNothing, name) != std::end(kGgufDecidesNothing)) continue;
      const std::vector<float> after = logits_of(Changed(*folder, key, other_than(value)), *backend);
      const bool is_optional = std::ranges::find(kGgufSometimes, name) != std::end(kGgufSometimes);
      n_noticed_[name] += after != before ? 1 : 0;
      EXPECT_TRUE(after != before || is_optional) << entry.path().filename() << ": " << key << " is ignored";
      EXPECT_TRUE(after.empty() || !std::holds_alternative<std::string_view>(value)) << key;
      ++n_changes;
    }
  }
  fmt::print("{} changes of keys\n", n_changes);
  for (const std::string_view key : kGgufSometimes)
    EXPECT_GT(n_noticed_[std::string(key)], 0) << key << " is never read";
  EXPECT_GT(n_changes, 500);
}

TEST_F(Settings, AreReadOrRefused) {
  const fs::path goldens = fs::path(MILLRACE_DATA_DIR) / "goldens";
  if (!fs::exists(goldens)) GTEST_SKIP() << "there is no folder " << goldens;
  for (const auto& entry : fs::directory_iterator(goldens)) {
    for (const char* name : {"config.json", "config_hub.json"}) {
      if (fs::exists(entry.path() / name)) check(entry.path(), name);
    }
  }
  fmt::print("{} changes of settings\n", n_changes_);
  EXPECT_GT(n_changes_, 1000);
  for (const std::string_view key : kSometimes)
    EXPECT_GT(n_noticed_[std::string(key)], 0) << key << " is never read";
}

}  // namespace
}  // namespace millrace
