// What happens to tensors and settings on the way from a Hugging Face folder, on folders made here.
#include "model/hf_import.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "base/file.h"
#include "base/json.h"
#include "base/temporary_folder.h"
#include "model/model.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

// A safetensors file under construction; element i of a tensor is i.
class Weights {
 public:
  void add(const std::string& name, std::vector<int64_t> shape) {
    const int64_t n = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    std::vector<float> values(static_cast<size_t>(n));
    std::iota(values.begin(), values.end(), 0.0f);
    const auto begin = static_cast<int64_t>(data_.size());
    data_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    Json::Array dims(shape.begin(), shape.end());
    header_[name]["dtype"] = "F32";
    header_[name]["shape"] = std::move(dims);
    header_[name]["data_offsets"] = Json::Array{begin, static_cast<int64_t>(data_.size())};
  }
  std::string file() const {
    std::string header = header_.dump();
    header.append(8 - header.size() % 8, ' ');
    const uint64_t n_bytes = header.size();
    std::string file(sizeof n_bytes, '\0');
    std::memcpy(file.data(), &n_bytes, sizeof n_bytes);
    return file + header + data_;
  }

 private:
  Json header_;
  std::string data_;
};

constexpr int64_t kVocab = 6, kHidden = 8, kHeads = 2, kKvHeads = 1, kHeadDim = 4, kFf = 12, kExperts = 3;

Json base_config(const char* model_type) {
  Json config;
  config["model_type"] = model_type;
  config["hidden_size"] = kHidden;
  config["num_hidden_layers"] = 1;
  config["num_attention_heads"] = kHeads;
  config["num_key_value_heads"] = kKvHeads;
  config["head_dim"] = kHeadDim;
  config["intermediate_size"] = kFf;
  config["vocab_size"] = kVocab;
  config["max_position_embeddings"] = 64;
  return config;
}

Weights base_weights() {
  Weights weights;
  const std::string layer = "model.layers.0.";
  weights.add("model.embed_tokens.weight", {kVocab, kHidden});
  weights.add("model.norm.weight", {kHidden});
  weights.add(layer + "input_layernorm.weight", {kHidden});
  weights.add(layer + "post_attention_layernorm.weight", {kHidden});
  weights.add(layer + "self_attn.q_proj.weight", {kHeads * kHeadDim, kHidden});
  weights.add(layer + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kHidden});
  weights.add(layer + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kHidden});
  weights.add(layer + "self_attn.o_proj.weight", {kHidden, kHeads * kHeadDim});
  return weights;
}

Weights dense_weights() {
  Weights weights = base_weights();
  weights.add("model.layers.0.mlp.gate_proj.weight", {kFf, kHidden});
  weights.add("model.layers.0.mlp.up_proj.weight", {kFf, kHidden});
  weights.add("model.layers.0.mlp.down_proj.weight", {kHidden, kFf});
  return weights;
}

class HfImport : public ::testing::Test {
 protected:
  std::unique_ptr<Checkpoint> open(const Json& config, const Weights& weights) const {
    folder_.write("config.json", config.dump());
    folder_.write("model.safetensors", weights.file());
    return open_hf_directory(folder_.path());
  }
  std::string error_of(const Json& config, const Weights& weights) const {
    try {
      open(config, weights);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_model);
      return error.what();
    }
    return "";
  }

  TemporaryFolder folder_;
};

float first_of_row(const Checkpoint& checkpoint, std::string_view name, int64_t row) {
  return reinterpret_cast<const float*>(checkpoint.find(name)->row(row))[0];
}

TEST_F(HfImport, LlamaHeadsArePaired) {
  Weights weights = dense_weights();
  weights.add("model.layers.0.self_attn.q_proj.bias", {kHeads * kHeadDim});
  const auto checkpoint = open(base_config("llama"), weights);
  // Of each head, rows 0 1 2 3 (halves 01 and 23) become 0 2 1 3.
  const float expected[] = {0, 2, 1, 3, 4, 6, 5, 7};
  const auto* bias = reinterpret_cast<const float*>(checkpoint->find("blk.0.attn_q.bias")->data);
  for (int64_t row = 0; row < 8; ++row) {
    EXPECT_EQ(first_of_row(*checkpoint, "blk.0.attn_q.weight", row), expected[row] * kHidden) << row;
    EXPECT_EQ(bias[row], expected[row]) << row;
  }
  for (int64_t row = 0; row < 4; ++row) {
    EXPECT_EQ(first_of_row(*checkpoint, "blk.0.attn_k.weight", row), expected[row] * kHidden) << row;
  }
  EXPECT_EQ(first_of_row(*checkpoint, "blk.0.attn_v.weight", 1), kHidden);
}

TEST_F(HfImport, QwenHeadsAreNot) {
  Weights weights = dense_weights();
  for (const char* name : {"q", "k", "v"}) {
    weights.add(fmt::format("model.layers.0.self_attn.{}_proj.bias", name),
                {(*name == 'q' ? kHeads : kKvHeads) * kHeadDim});
  }
  const auto checkpoint = open(base_config("qwen2"), weights);
  EXPECT_EQ(first_of_row(*checkpoint, "blk.0.attn_q.weight", 1), kHidden);
  EXPECT_NO_THROW(load_model(*checkpoint));
}

TEST_F(HfImport, ExpertsAreStacked) {
  Json config = base_config("mixtral");
  config["num_local_experts"] = kExperts;
  config["num_experts_per_tok"] = 2;
  Weights weights = base_weights();
  weights.add("model.layers.0.block_sparse_moe.gate.weight", {kExperts, kHidden});
  for (int64_t e = kExperts - 1; e >= 0; --e) {
    const std::string expert = fmt::format("model.layers.0.block_sparse_moe.experts.{}.", e);
    weights.add(expert + "w1.weight", {kFf, kHidden});
    weights.add(expert + "w2.weight", {kHidden, kFf});
    weights.add(expert + "w3.weight", {kFf, kHidden});
  }
  const auto checkpoint = open(config, weights);
  const Tensor* gate = checkpoint->find("blk.0.ffn_gate_exps.weight");
  ASSERT_NE(gate, nullptr);
  EXPECT_EQ(shape_text(*gate), "(3, 12, 8) F32");
  EXPECT_EQ(gate->at(2).f32()[1], 1.0f);
  EXPECT_NO_THROW(load_model(*checkpoint));
}

TEST_F(HfImport, FusedExpertsAreSplit) {
  Json config = base_config("qwen3_moe");
  config["num_experts"] = kExperts;
  config["moe_intermediate_size"] = kFf;
  config["num_experts_per_tok"] = 2;
  Weights weights = base_weights();
  weights.add("model.layers.0.self_attn.q_norm.weight", {kHeadDim});
  weights.add("model.layers.0.self_attn.k_norm.weight", {kHeadDim});
  weights.add("model.layers.0.mlp.gate.weight", {kExperts, kHidden});
  weights.add("model.layers.0.mlp.experts.gate_up_proj", {kExperts, 2 * kFf, kHidden});
  weights.add("model.layers.0.mlp.experts.down_proj", {kExperts, kHidden, kFf});
  const auto checkpoint = open(config, weights);
  const Tensor* up = checkpoint->find("blk.0.ffn_up_exps.weight");
  ASSERT_NE(up, nullptr);
  EXPECT_EQ(shape_text(*up), "(3, 12, 8) F32");
  EXPECT_EQ(up->at(0).f32()[0], kFf * kHidden);
  EXPECT_EQ(checkpoint->find("blk.0.ffn_gate_exps.weight")->at(1).f32()[0], 2 * kFf * kHidden);
  EXPECT_NO_THROW(load_model(*checkpoint));
}

// Stored as (experts, in, out): the gate is the first half of the columns.
TEST_F(HfImport, ExpertsOfLlama4AreTransposed) {
  Json config = base_config("llama4_text");
  config["num_local_experts"] = kExperts;
  config["intermediate_size_mlp"] = kFf;
  const std::string block = "model.layers.0.feed_forward.";
  Weights weights = base_weights();
  weights.add(block + "router.weight", {kExperts, kHidden});
  weights.add(block + "experts.gate_up_proj", {kExperts, kHidden, 2 * kFf});
  weights.add(block + "experts.down_proj", {kExperts, kFf, kHidden});
  weights.add(block + "shared_expert.gate_proj.weight", {kFf, kHidden});
  weights.add(block + "shared_expert.up_proj.weight", {kFf, kHidden});
  weights.add(block + "shared_expert.down_proj.weight", {kHidden, kFf});
  const auto checkpoint = open(config, weights);
  const Tensor* gate = checkpoint->find("blk.0.ffn_gate_exps.weight");
  const Tensor* up = checkpoint->find("blk.0.ffn_up_exps.weight");
  const Tensor* down = checkpoint->find("blk.0.ffn_down_exps.weight");
  EXPECT_EQ(shape_text(*gate), "(3, 12, 8) F32");
  EXPECT_EQ(shape_text(*down), "(3, 8, 12) F32");
  EXPECT_EQ(gate->at(2).f32()[1], 2 * kHidden * 2 * kFf + 2 * kFf);        // in 1, out 0
  EXPECT_EQ(up->at(1).f32()[kHidden], kHidden * 2 * kFf + kFf + 1);        // in 0, out 1
  EXPECT_EQ(down->at(1).f32()[kFf + 2], kFf * kHidden + 2 * kHidden + 1);  // in 2, out 1
  EXPECT_NO_THROW(load_model(*checkpoint));

  config["layer_types"] = Json::Array{"full_attention"};
  EXPECT_EQ(open(config, weights)->metadata().need<int64_t>("millrace.attention.chunk_size"), 0);
  config["no_rope_layers"] = Json::Array{0};
  config["layer_types"] = Json::Array{"chunked_attention"};
  EXPECT_NE(error_of(config, weights).find("layer_types"), std::string::npos);
}

// Gate and up are the even and the odd columns, and elements of the bias.
TEST_F(HfImport, GateAndUpOfGptOssAlternate) {
  Json config = base_config("gpt_oss");
  config["num_local_experts"] = kExperts;
  const std::string block = "model.layers.0.mlp.";
  Weights weights = base_weights();
  weights.add(block + "experts.gate_up_proj", {kExperts, kHidden, 2 * kFf});
  weights.add(block + "experts.gate_up_proj_bias", {kExperts, 2 * kFf});
  const auto checkpoint = open(config, weights);
  const Tensor* up = checkpoint->find("blk.0.ffn_up_exps.weight");
  EXPECT_EQ(shape_text(*up), "(3, 12, 8) F32");
  EXPECT_EQ(up->at(2).f32()[kHidden + 1], 2 * kHidden * 2 * kFf + 2 * kFf + 3);  // in 1, out 1
  const Tensor* gate_bias = checkpoint->find("blk.0.ffn_gate_exps.bias");
  EXPECT_EQ(shape_text(*gate_bias), "(3, 12) F32");
  EXPECT_EQ(gate_bias->at(1).f32()[3], 2 * kFf + 6);
  EXPECT_EQ(checkpoint->find("blk.0.ffn_up_exps.bias")->at(1).f32()[3], 2 * kFf + 7);

  config["swiglu_limit"] = 6.0;
  EXPECT_NE(error_of(config, weights).find("swiglu_limit"), std::string::npos);
  config["swiglu_limit"] = 7.0;
  weights.add(block + "experts.down_proj", {kExperts, kFf * kHidden});
  EXPECT_NE(error_of(config, weights).find("ffn_down_exps.weight"), std::string::npos);
}

TEST_F(HfImport, LayersThatDraftAreLeftOut) {
  Json config = base_config("llama");
  Weights weights = dense_weights();
  weights.add("model.layers.1.eh_proj.weight", {kHidden, 2 * kHidden});
  EXPECT_NE(error_of(config, weights).find("eh_proj"), std::string::npos);
  config["num_nextn_predict_layers"] = 1;
  EXPECT_EQ(open(config, weights)->find("blk.1.eh_proj.weight"), nullptr);
  weights.add("model.layers.2.eh_proj.weight", {kHidden, 2 * kHidden});
  EXPECT_NE(error_of(config, weights).find("layers.2.eh_proj"), std::string::npos);
}

// Each would change how experts are chosen.
TEST_F(HfImport, RoutingThatIsNotUnderstoodIsRefused) {
  struct Case {
    const char* model_type;
    const char* key;
    Json value;
  };
  const Case cases[] = {
      {"glm4_moe", "n_group", 4},
      {"glm4_moe", "scoring_func", "softmax"},
      {"minimax_m2", "scoring_func", "softmax"},
      {"minimax_m2", "use_routing_bias", false},
      {"minimax_m2", "shared_intermediate_size", 16},
      {"minimax_m2", "attn_type_list", Json::Array{1, 0}},
      {"minimax", "attn_type_list", Json::Array{0}},
      {"minimax", "layernorm_mlp_beta", 3.5},
      {"minimax", "num_expert_group", 8},
      {"qwen2_moe", "use_sliding_window", true},
      {"gpt_oss", "layer_types", Json::Array{"chunked_attention"}},
  };
  for (const Case& bad : cases) {
    Json config = base_config(bad.model_type);
    for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) config[key] = kExperts;
    for (const char* key : {"num_experts_per_tok", "n_shared_experts"}) config[key] = 1;
    for (const char* key : {"moe_intermediate_size", "shared_expert_intermediate_size"}) config[key] = kFf;
    config[bad.key] = bad.value;
    EXPECT_NE(error_of(config, base_weights()).find(bad.key), std::string::npos)
        << bad.model_type << ": " << error_of(config, base_weights());
  }
}

TEST_F(HfImport, GemmaNormsGetTheirOne) {
  Weights weights = dense_weights();
  weights.add("model.layers.0.pre_feedforward_layernorm.weight", {kHidden});
  weights.add("model.layers.0.post_feedforward_layernorm.weight", {kHidden});
  const auto checkpoint = open(base_config("gemma2"), weights);
  EXPECT_EQ(checkpoint->find("output_norm.weight")->f32()[3], 4.0f);
  EXPECT_EQ(checkpoint->find("blk.0.post_attention_norm.weight")->f32()[0], 1.0f);
  EXPECT_EQ(checkpoint->metadata().need<double>("gemma2.attn_logit_softcapping"), 50.0);  // of the class
  EXPECT_NO_THROW(load_model(*checkpoint));
}

// Two key heads of one dimension and four value heads of two.
Json delta_net_config(const char* model_type) {
  Json config = base_config(model_type);
  config["linear_num_key_heads"] = 2;
  config["linear_num_value_heads"] = 4;
  config["linear_key_head_dim"] = 1;
  config["linear_value_head_dim"] = 2;
  return config;
}

// The rows of the file that the rows of a tensor with `width` columns are.
std::vector<float> rows_of(const Checkpoint& checkpoint, std::string_view name, int64_t width) {
  std::vector<float> rows;
  for (int64_t i = 0; i < checkpoint.find(name)->n_rows(); ++i)
    rows.push_back(first_of_row(checkpoint, name, i) / static_cast<float>(width));
  return rows;
}

TEST_F(HfImport, FusedDeltaNetsAreSplit) {
  Weights weights = base_weights();
  weights.add("model.layers.0.linear_attn.in_proj_qkvz.weight", {20, kHidden});
  weights.add("model.layers.0.linear_attn.conv1d.weight", {12, 1, 4});
  weights.add("model.layers.0.linear_attn.A_log", {4});
  weights.add("mtp.fc.weight", {kHidden, 2 * kHidden});
  Json config = delta_net_config("qwen3_next");
  config["num_experts"] = kExperts;
  config["num_experts_per_tok"] = 1;
  const auto checkpoint = open(config, weights);
  // For each key head q, k, four of v and four of z.
  EXPECT_EQ(rows_of(*checkpoint, "blk.0.attn_qkv.weight", kHidden),
            (std::vector<float>{0, 10, 1, 11, 2, 3, 4, 5, 12, 13, 14, 15}));
  EXPECT_EQ(rows_of(*checkpoint, "blk.0.attn_gate.weight", kHidden),
            (std::vector<float>{6, 7, 8, 9, 16, 17, 18, 19}));
  EXPECT_EQ(shape_text(*checkpoint->find("blk.0.ssm_conv1d.weight")), "(12, 4) F32");
  EXPECT_FLOAT_EQ(checkpoint->find("blk.0.ssm_a")->f32()[1], -std::exp(1.0f));
}

TEST_F(HfImport, ValueHeadsAreTiled) {
  Weights weights = base_weights();
  weights.add("model.layers.0.linear_attn.in_proj_qkv.weight", {12, kHidden});
  weights.add("model.layers.0.linear_attn.in_proj_b.weight", {4, kHidden});
  weights.add("model.layers.0.linear_attn.conv1d.weight", {12, 1, 4});
  weights.add("model.layers.0.linear_attn.A_log", {4});
  weights.add("model.layers.0.linear_attn.dt_bias", {4});
  weights.add("model.layers.0.linear_attn.out_proj.weight", {1, 8});
  const auto checkpoint = open(delta_net_config("qwen3_5_text"), weights);
  const std::vector<float> channels{0, 1, 2, 3, 4, 5, 8, 9, 6, 7, 10, 11};
  EXPECT_EQ(rows_of(*checkpoint, "blk.0.attn_qkv.weight", kHidden), channels);
  EXPECT_EQ(rows_of(*checkpoint, "blk.0.ssm_conv1d.weight", 4), channels);
  EXPECT_EQ(rows_of(*checkpoint, "blk.0.ssm_beta.weight", kHidden), (std::vector<float>{0, 2, 1, 3}));
  EXPECT_EQ(checkpoint->find("blk.0.ssm_dt.bias")->f32()[1], 2.0f);
  EXPECT_FLOAT_EQ(checkpoint->find("blk.0.ssm_a")->f32()[2], -std::exp(1.0f));
  const float* out = checkpoint->find("blk.0.ssm_out.weight")->f32();
  EXPECT_EQ(std::vector<float>(out, out + 8), (std::vector<float>{0, 1, 4, 5, 2, 3, 6, 7}));
  weights.add("model.layers.0.linear_attn.in_proj_z.weight", {7, kHidden});
  EXPECT_NE(error_of(delta_net_config("qwen3_5_text"), weights).find("attn_gate"), std::string::npos);
}

// As published: an object of its own for delta attention, layers counted from 1.
Json kimi_config() {
  Json config = base_config("kimi_linear");
  config["num_key_value_heads"] = kHeads;
  config["num_hidden_layers"] = 2;
  Json linear;
  linear["full_attn_layers"] = Json::Array{2};
  linear["kda_layers"] = Json::Array{1};
  linear["head_dim"] = kHeadDim;
  linear["num_heads"] = kHeads;
  linear["short_conv_kernel_size"] = 4;
  config["linear_attn_config"] = linear;
  return config;
}

TEST_F(HfImport, KimiLinearAsPublished) {
  Weights weights = base_weights();
  weights.add("model.layers.0.self_attn.A_log", {1, 1, kHeads, 1});
  weights.add("model.layers.0.self_attn.q_conv1d.weight", {kHeads * kHeadDim, 1, 4});
  const auto checkpoint = open(kimi_config(), weights);
  const Metadata& metadata = checkpoint->metadata();
  EXPECT_EQ(metadata.need<std::vector<int64_t>>("kimi-linear.attention.head_count_kv"),
            (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(metadata.need<int64_t>("kimi-linear.kda.head_dim"), kHeadDim);
  EXPECT_EQ(metadata.need<int64_t>("kimi-linear.leading_dense_block_count"), 1);
  EXPECT_FLOAT_EQ(checkpoint->find("blk.0.ssm_a")->f32()[1], -std::exp(1.0f));
}

// Two spellings of the rotation may stand side by side where they say the same.
TEST_F(HfImport, SpellingsOfTheRotationAgree) {
  Json config = base_config("llama");
  config["rope_parameters"]["rope_type"] = "linear";
  config["rope_parameters"]["factor"] = 2.0;
  config["rope_parameters"]["rope_theta"] = 10000.0;
  config["rope_scaling"]["type"] = "linear";
  config["rope_scaling"]["factor"] = 2.0;
  EXPECT_EQ(error_of(config, base_weights()), "");
  config["rope_scaling"]["factor"] = 4.0;
  EXPECT_NE(error_of(config, base_weights()).find("rope_parameters says otherwise about factor"),
            std::string::npos);
}

TEST_F(HfImport, KimiLinearThatIsNotUnderstoodIsRefused) {
  const auto error_with = [&](const char* key, const Json& value) {
    Json config = kimi_config();
    config["linear_attn_config"][key] = value;
    return error_of(config, base_weights());
  };
  EXPECT_NE(error_with("num_heads", 3).find("num_heads"), std::string::npos);
  EXPECT_NE(error_with("full_attn_layers", Json::Array{3}).find("full_attn_layers"), std::string::npos);
  EXPECT_NE(error_with("gate_lower_bound", -5.0).find("gate_lower_bound"), std::string::npos);
  Json rotating = kimi_config();
  rotating["mla_use_nope"] = false;
  EXPECT_NE(error_of(rotating, base_weights()).find("mla_use_nope"), std::string::npos);
}

// As published: an object of its own for delta attention, which counts layers from 0, and a draft layer.
Json glm5_next_config() {
  Json config = base_config("glm5_next_text");
  config["num_key_value_heads"] = kHeads;
  config["num_hidden_layers"] = 2;
  config["layer_types"] = Json::Array{"linear_attention", "deepseek_sparse_attention"};
  config["mlp_layer_types"] = Json::Array{"dense", "sparse"};
  config["indexer_types"] = Json::Array{"full", "full"};
  config["num_nextn_predict_layers"] = 1;
  config["mhc"] = true;
  config["mla_use_nope"] = true;
  config["indexer_rope_interleave"] = true;
  config["index_kpool"] = 4;
  config["index_kpool_compress"] = true;
  config["index_kpool_always_select_tail"] = true;
  Json linear;
  linear["full_attn_layers"] = Json::Array{1};
  linear["kda_layers"] = Json::Array{0};
  linear["head_dim"] = kHeadDim;
  linear["num_heads"] = kHeads;
  linear["short_conv_kernel_size"] = 4;
  linear["gate_lower_bound"] = -3.0;
  config["linear_attn_config"] = linear;
  return config;
}

TEST_F(HfImport, Glm5NextAsPublished) {
  Weights weights = base_weights();
  weights.add("model.layers.0.hc_attn_fn", {8, 2 * kHidden});
  weights.add("model.layers.1.self_attn.indexer.index_kpool_compress_ape", {4, 3});
  weights.add("model.layers.2.shared_head.norm.weight", {kHidden});  // of the draft layer
  const auto checkpoint = open(glm5_next_config(), weights);
  const Metadata& metadata = checkpoint->metadata();
  EXPECT_EQ(metadata.need<std::string_view>("general.architecture"), "glm5-next");
  EXPECT_EQ(metadata.need<std::vector<int64_t>>("glm5-next.attention.head_count_kv"),
            (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(metadata.need<int64_t>("glm5-next.leading_dense_block_count"), 1);
  EXPECT_EQ(metadata.need<int64_t>("glm5-next.attention.indexer.kpool"), 4);
  EXPECT_EQ(metadata.need<double>("glm5-next.kda.gate_lower_bound"), -3.0);
  EXPECT_EQ(metadata.need<std::vector<double>>("glm5-next.swiglu_clamp_exp"), (std::vector<double>{10, 10}));
  EXPECT_NE(checkpoint->find("blk.0.hc_attn_fn.weight"), nullptr);
  EXPECT_NE(checkpoint->find("blk.1.indexer_compressor_ape.weight"), nullptr);
  EXPECT_EQ(checkpoint->tensors().size(), 10u);
}

TEST_F(HfImport, Glm5NextThatIsNotUnderstoodIsRefused) {
  const std::pair<const char*, Json> cases[] = {
      {"mhc", false},
      {"mla_use_nope", false},
      {"qk_rope_head_dim", 8},
      {"index_kpool_compress", false},
      {"index_kpool_always_select_tail", false},
      {"indexer_types", Json::Array{"full", "shared"}},
      {"layer_types", Json::Array{"linear_attention", "sliding_attention"}},
      {"mlp_layer_types", Json::Array{"sparse", "dense"}},
      {"scoring_func", "softmax"},
      {"index_topk_freq", 2},
      {"some_new_feature", true},
  };
  for (const auto& [key, value] : cases) {
    Json config = glm5_next_config();
    config[key] = value;
    EXPECT_NE(error_of(config, base_weights()).find(key), std::string::npos)
        << key << ": " << error_of(config, base_weights());
  }
}

// The gate of delta attention is bounded where the config does not say otherwise.
TEST_F(HfImport, TheFloorOfADecay) {
  Json config = glm5_next_config();
  const auto floor = [&] {
    return open(config, base_weights())->metadata().get_or("glm5-next.kda.gate_lower_bound", 0.0);
  };
  config["linear_attn_config"]["gate_lower_bound"] = Json();
  EXPECT_EQ(floor(), -5.0);
  config["linear_attn_config"]["safe_gate"] = false;
  EXPECT_EQ(floor(), 0.0);
  for (const char* key : {"linear_head_dim", "linear_num_heads", "linear_conv_kernel_dim"})
    config[key] = kHeads;
  config["linear_attn_config"] = Json();
  EXPECT_EQ(floor(), -5.0);
  config["linear_lower_bound"] = Json();
  EXPECT_EQ(floor(), 0.0);
}

TEST_F(HfImport, TheTextHalfOfALargerModel) {
  Json config;
  config["model_type"] = "mistral3";
  config["text_config"] = base_config("mistral");
  Weights weights;
  for (const char* prefix : {"language_model.", "vision_tower.", "multi_modal_projector."}) {
    weights.add(std::string(prefix) + "x", {1});
  }
  EXPECT_NE(error_of(config, weights).find("language_model.x"), std::string::npos)
      << error_of(config, weights);
}

// Each asks for something that would change the numbers.
TEST_F(HfImport, WhatIsNotUnderstoodIsRefused) {
  const std::pair<const char*, Json> cases[] = {
      {"logit_scale", 0.5},
      {"some_new_feature", true},
      {"hidden_act", "relu2"},
      {"sliding_window", 16},  // LlamaConfig has none
      {"quantization_config", Json::Object{{"quant_method", "quip"}}},
      {"quantization_config", Json::Object{{"quant_method", "fp8"}, {"fmt", "e5m2"}}},
      {"quantization_config", Json::Object{{"quant_method", "awq"}, {"novelty", 1}}},
      {"rope_scaling", Json::Object{{"type", "dynamic"}, {"factor", 2.0}}},
      {"rope_scaling", Json::Object{{"type", "linear"}, {"factor", 2.0}, {"novelty", 1}}},
      {"rope_scaling", Json::Object{{"type", "linear"}, {"factor", -2.0}}},
      {"rms_norm_eps", "1e-5"},
      {"num_attention_heads", 0},
      {"num_hidden_layers", int64_t{1} << 40},
      {"model_type", "lama"},
  };
  for (const auto& [key, value] : cases) {
    Json config = base_config("llama");
    config[key] = value;
    EXPECT_NE(error_of(config, dense_weights()), "") << key << " " << value.dump();
  }
  EXPECT_EQ(error_of(base_config("llama"), dense_weights()), "");
}

// The same, in the words of other classes.
TEST_F(HfImport, WhatAClassDoesNotDoIsRefused) {
  struct Case {
    const char* model_type;
    const char* key;
    Json value;
  };
  const Case cases[] = {
      {"granite", "hidden_act", "gelu"},
      {"cohere", "sliding_window", 16},
      {"cohere2", "use_parallel_block", false},
      {"cohere2", "use_qk_norm", true},
      {"cohere2", "rotary_pct", 0.5},
      {"cohere2", "order_of_interleaved_layers", "global_attn_first"},
      {"olmo2", "sliding_window", 16},
      {"olmo2", "clip_qkv", 8.0},
      {"starcoder2", "hidden_act", "relu"},
      {"starcoder2", "norm_type", "rms_norm"},
      {"glm4", "sliding_window", 16},
      {"gemma3n_text", "altup_correct_scale", false},
      {"gemma3n_text", "activation_sparsity_pattern", Json::Array{1.0}},
      {"gemma4_text", "use_bidirectional_attention", "all"},
      {"gemma4_text", "hidden_activation", "silu"},
  };
  for (const auto& [model_type, key, value] : cases) {
    Json config = base_config(model_type);
    config[key] = value;
    const std::string error = error_of(config, dense_weights());
    EXPECT_NE(error.find(key), std::string::npos) << model_type << " " << key << ": " << error;
  }
}

TEST_F(HfImport, HarmlessSettingsAreFine) {
  Json config = base_config("llama");
  config["use_cache"] = true;
  config["torch_dtype"] = "float32";
  config["rope_interleaved"] = false;
  config["rope_scaling"] = nullptr;
  EXPECT_EQ(error_of(config, dense_weights()), "");
}

TEST_F(HfImport, TensorsThatDoNotFitAreRefused) {
  Weights strange = dense_weights();
  strange.add("model.layers.0.self_attn.sinks", {kHeads});
  EXPECT_NE(error_of(base_config("llama"), strange).find("sinks"), std::string::npos);

  Weights odd = dense_weights();
  odd.add("model.layers.0.self_attn.q_proj.bias", {3});
  EXPECT_NE(error_of(base_config("llama"), odd).find("attn_q.bias"), std::string::npos);

  Json config = base_config("mixtral");
  config["num_local_experts"] = kExperts;
  config["num_experts_per_tok"] = 2;
  Weights gap = base_weights();
  gap.add("model.layers.0.block_sparse_moe.experts.2.w1.weight", {kFf, kHidden});
  EXPECT_NE(error_of(config, gap), "");
}

// Without make_all, what has to be made has no elements, and is written when asked for.
TEST_F(HfImport, TensorsAreMadeOneByOne) {
  folder_.write("config.json", base_config("llama").dump());
  folder_.write("model.safetensors", dense_weights().file());
  const auto lazy = read_hf_folder(folder_.path());
  const auto made = open_hf_directory(folder_.path());
  EXPECT_EQ(lazy->find("blk.0.attn_q.weight")->data, nullptr);
  EXPECT_NO_THROW(load_model(*lazy));
  for (size_t i = 0; i < lazy->tensors().size(); ++i) {
    const NamedTensor& named = lazy->tensors()[i];
    std::vector<std::byte> bytes(static_cast<size_t>(named.tensor.n_bytes()));
    lazy->write(i, bytes.data());
    EXPECT_EQ(std::memcmp(bytes.data(), made->find(named.name)->data, bytes.size()), 0) << named.name;
  }
}

// The same tensors as a model without a head saves them.
Weights body_weights() {
  Weights weights;
  weights.add("embed_tokens.weight", {kVocab, kHidden});
  weights.add("norm.weight", {kHidden});
  const std::string layer = "layers.0.";
  for (const char* name : {"input_layernorm", "post_attention_layernorm"})
    weights.add(layer + name + ".weight", {kHidden});
  weights.add(layer + "self_attn.q_proj.weight", {kHeads * kHeadDim, kHidden});
  weights.add(layer + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kHidden});
  weights.add(layer + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kHidden});
  weights.add(layer + "self_attn.o_proj.weight", {kHidden, kHeads * kHeadDim});
  weights.add(layer + "mlp.gate_proj.weight", {kFf, kHidden});
  weights.add(layer + "mlp.up_proj.weight", {kFf, kHidden});
  weights.add(layer + "mlp.down_proj.weight", {kHidden, kFf});
  return weights;
}

Pooling pooling_of(const Checkpoint& checkpoint) { return load_model(checkpoint)->shape().pooling; }

TEST_F(HfImport, ABodyAloneGivesEmbeddings) {
  Json config = base_config("llama");
  EXPECT_FALSE(load_model(*open(config, body_weights()))->shape().gives_embeddings());
  config["architectures"] = Json::Array{"LlamaForCausalLM"};
  EXPECT_FALSE(load_model(*open(config, dense_weights()))->shape().gives_embeddings());
  config["architectures"] = Json::Array{"LlamaModel"};
  EXPECT_EQ(pooling_of(*open(config, body_weights())), Pooling::last);
}

constexpr const char* kModules = R"([{"type": "sentence_transformers.models.Transformer", "path": ""},
  {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
  {"type": "sentence_transformers.models.Dense", "path": "2_Dense"},
  {"type": "sentence_transformers.models.Normalize", "path": "3_Normalize"}])";
constexpr const char* kIdentity =
    R"({"bias": false, "activation_function": "torch.nn.modules.linear.Identity"})";

TEST_F(HfImport, SentenceTransformersSayHowRowsArePooled) {
  Json config = base_config("gemma3_text");
  config["use_bidirectional_attention"] = true;
  Weights weights = body_weights();
  for (const char* name : {"pre_feedforward_layernorm", "post_feedforward_layernorm"})
    weights.add(fmt::format("layers.0.{}.weight", name), {kHidden});
  for (const char* name : {"q_norm", "k_norm"})
    weights.add(fmt::format("layers.0.self_attn.{}.weight", name), {kHeadDim});
  EXPECT_EQ(pooling_of(*open(config, weights)), Pooling::none);  // an encoder: nothing says it

  Weights dense;
  dense.add("linear.weight", {5, kHidden});
  folder_.write("modules.json", kModules);
  folder_.write(
      "1_Pooling/config.json",
      R"({"word_embedding_dimension": 8, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true})");
  folder_.write("2_Dense/config.json", kIdentity);
  folder_.write("2_Dense/model.safetensors", dense.file());
  const auto checkpoint = open(config, weights);
  EXPECT_EQ(checkpoint->metadata().need<std::string_view>("general.architecture"), "gemma-embedding");
  const auto model = load_model(*checkpoint);
  EXPECT_EQ(model->shape().pooling, Pooling::mean);
  EXPECT_EQ(model->shape().n_embedding, 5);
  EXPECT_EQ(checkpoint->find("dense_2.weight")->f32()[kHidden], static_cast<float>(kHidden));

  const std::pair<const char*, const char*> refused[] = {
      {"2_Dense/config.json", R"({"bias": true})"},
      {"2_Dense/config.json", R"({"activation_function": "torch.nn.modules.activation.Tanh"})"},
      {"2_Dense/model.safetensors", "nothing"},
      {"1_Pooling/config.json", R"({"pooling_mode_max_tokens": true})"},
      {"1_Pooling/config.json", R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true})"},
      {"1_Pooling/config.json", R"({"pooling_mode_mean_tokens": false})"},
      {"modules.json", R"([{"type": "sentence_transformers.models.LSTM", "path": "1_LSTM"}])"},
      {"modules.json", "[]]"},
  };
  for (const auto& [name, content] : refused) {
    const fs::path path = folder_.path() / name;
    const std::string before = read_file(path, 1 << 20);
    folder_.write(name, content);
    EXPECT_NE(error_of(config, weights), "") << name << " " << content;
    folder_.write(name, before);
  }
  EXPECT_EQ(error_of(config, weights), "");
}

// RoBERTa's table of positions begins with two rows for its padding; the names of a body stand behind
// "roberta.".
TEST_F(HfImport, RobertaReranks) {
  Json config = base_config("xlm-roberta");
  for (const char* key : {"num_key_value_heads", "head_dim"}) {
    std::erase_if(config.as_object(), [&](const Json::Member& member) { return member.first == key; });
  }
  config["architectures"] = Json::Array{"XLMRobertaForSequenceClassification"};
  Weights weights;
  const auto add_with_bias = [&](const std::string& name, int64_t n_out, int64_t n_in) {
    weights.add(name + ".weight", n_in > 0 ? std::vector<int64_t>{n_out, n_in} : std::vector<int64_t>{n_out});
    weights.add(name + ".bias", {n_out});
  };
  weights.add("roberta.embeddings.word_embeddings.weight", {kVocab, kHidden});
  weights.add("roberta.embeddings.position_embeddings.weight", {64, kHidden});
  weights.add("roberta.embeddings.position_ids", {1, 64});
  weights.add("roberta.embeddings.token_type_embeddings.weight", {1, kHidden});
  add_with_bias("roberta.embeddings.LayerNorm", kHidden, 0);
  const std::string layer = "roberta.encoder.layer.0.";
  for (const char* name : {"query", "key", "value"})
    add_with_bias(layer + "attention.self." + name, kHidden, kHidden);
  add_with_bias(layer + "attention.output.dense", kHidden, kHidden);
  add_with_bias(layer + "attention.output.LayerNorm", kHidden, 0);
  add_with_bias(layer + "intermediate.dense", kFf, kHidden);
  add_with_bias(layer + "output.dense", kHidden, kFf);
  add_with_bias(layer + "output.LayerNorm", kHidden, 0);
  add_with_bias("classifier.dense", kHidden, kHidden);
  add_with_bias("classifier.out_proj", 1, kHidden);
  const auto checkpoint = open(config, weights);
  const auto model = load_model(*checkpoint);
  EXPECT_EQ(model->shape().pooling, Pooling::rank);
  EXPECT_EQ(model->shape().n_scores, 1);
  EXPECT_EQ(model->shape().n_ctx_train, 62);
  EXPECT_EQ(first_of_row(*checkpoint, "position_embd.weight", 0), 2.0f * kHidden);
  config["pad_token_id"] = 0;
  EXPECT_NE(error_of(config, weights).find("pad_token_id"), std::string::npos);
}

}  // namespace
}  // namespace millrace
