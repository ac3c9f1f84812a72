// Every body on tiny random weights: at once = in chunks = token by token, alone = in a batch, bit for bit.
#include "model/families.h"

#include <gtest/gtest.h>

#include "model/testing/driver.h"
#include "model/testing/tiny_models.h"

namespace millrace {
namespace {

using testing::Driver;
using testing::Rows;

std::vector<int32_t> random_tokens(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % testing::kTinyVocab);
  return tokens;
}

std::vector<float> run_alone(const Model& model, Backend& backend, std::span<const int32_t> tokens,
                             size_t n_chunk) {
  Driver driver(model, backend, 1, std::ssize(tokens));
  driver.set_prompt_length(0, tokens.size());
  return driver.run(0, tokens, n_chunk);
}

TEST(Families, ChunksDoNotMatter) {
  const auto backend = make_reference_backend();
  for (const auto& [name, checkpoint] : testing::tiny_models()) {
    const auto model = load_model(*checkpoint);
    const std::vector<int32_t> tokens = random_tokens(37, 1);
    const std::vector<float> whole = run_alone(*model, *backend, tokens, 0);
    ASSERT_EQ(whole.size(), tokens.size() * testing::kTinyVocab);
    EXPECT_GT(std::abs(whole[0]), 0.0f) << name;
    for (const size_t n_chunk : {1, 7, 32}) {
      EXPECT_EQ(run_alone(*model, *backend, tokens, n_chunk), whole) << name << " in chunks of " << n_chunk;
    }
  }
}

// Sequences of different length, some longer than longrope's original context, in one step.
TEST(Families, NeighboursDoNotMatter) {
  const auto backend = make_reference_backend();
  for (const auto& [name, checkpoint] : testing::tiny_models()) {
    const auto model = load_model(*checkpoint);
    std::vector<std::vector<int32_t>> prompts;
    for (unsigned i = 0; i < 5; ++i) prompts.push_back(random_tokens(3 + 11 * i, i));
    Driver driver(*model, *backend, prompts.size(), 64, 7);
    std::vector<Rows> step;
    for (size_t i = 0; i < prompts.size(); ++i) {
      driver.set_prompt_length(i, prompts[i].size());
      step.push_back({i, prompts[i]});
    }
    const std::vector<float> together = driver.step(step);
    size_t at = 0;
    for (const std::vector<int32_t>& prompt : prompts) {
      const std::vector<float> alone = run_alone(*model, *backend, prompt, 0);
      ASSERT_LE(at + alone.size(), together.size());
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + static_cast<std::ptrdiff_t>(at)))
          << name;
      at += alone.size();
    }
    EXPECT_EQ(at, together.size());
  }
}

TEST(Families, CausesAreThePast) {
  const auto backend = make_reference_backend();
  for (const auto& [name, checkpoint] : testing::tiny_models()) {
    const auto model = load_model(*checkpoint);
    std::vector<int32_t> tokens = random_tokens(20, 3);
    const std::vector<float> before = run_alone(*model, *backend, tokens, 0);
    tokens.back() ^= 1;
    const std::vector<float> after = run_alone(*model, *backend, tokens, 0);
    const auto last_row = static_cast<std::ptrdiff_t>(before.size()) - testing::kTinyVocab;
    EXPECT_TRUE(std::equal(before.begin(), before.begin() + last_row, after.begin())) << name;
    EXPECT_FALSE(std::equal(before.begin() + last_row, before.end(), after.begin() + last_row)) << name;
  }
}

TEST(Families, BackendsAgree) {
  const auto reference = make_reference_backend(), one = make_cpu_backend(1), two = make_cpu_backend(2);
  for (const auto& [name, checkpoint] : testing::tiny_models()) {
    const auto model = load_model(*checkpoint);
    const std::vector<int32_t> tokens = random_tokens(40, 5);
    const std::vector<float> expected = run_alone(*model, *reference, tokens, 0);
    const std::vector<float> found = run_alone(*model, *one, tokens, 0);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-3) << name << " " << i;
    EXPECT_EQ(run_alone(*model, *two, tokens, 7), found) << name;
  }
}

// Long sequences of phi3 turn by another table.
TEST(Families, LongropeChoosesByThePrompt) {
  const auto backend = make_reference_backend();
  const auto checkpoint = testing::tiny_phi3();
  const auto model = load_model(*checkpoint);
  ASSERT_EQ(model->shape().long_rope_from, 32);
  const std::vector<int32_t> tokens = random_tokens(10, 1);
  Driver driver(*model, *backend, 2, 16);
  driver.set_prompt_length(0, 32);
  driver.set_prompt_length(1, 33);
  EXPECT_NE(driver.run(0, tokens, 0), driver.run(1, tokens, 0));
}

std::string error_of(const Checkpoint& checkpoint) {
  try {
    load_model(checkpoint);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    return error.what();
  }
  return "";
}

TEST(Families, UnknownArchitectureNamesTheNearest) {
  testing::MemoryCheckpoint checkpoint;
  checkpoint.set_text("general.architecture", "quen3");
  EXPECT_NE(error_of(checkpoint).find("qwen3"), std::string::npos) << error_of(checkpoint);
}

// The two forms of latent attention are one function.
TEST(Families, FormsOfLatentsAgree) {
  const auto backend = make_reference_backend();
  const std::vector<int32_t> tokens = random_tokens(40, 2);
  for (const std::string_view name : {"deepseek2", "glm-dsa"}) {
    const auto checkpoint = testing::tiny_deepseek(name);
    const auto absorbed = load_model(*checkpoint);
    const auto expanded = load_model(*checkpoint, LatentForm::expanded);
    EXPECT_EQ(expanded->shape().kv_layers[0].n_kv_heads, testing::kTinyHeads);
    const std::vector<float> expected = run_alone(*absorbed, *backend, tokens, 0);
    const std::vector<float> found = run_alone(*expanded, *backend, tokens, 0);
    EXPECT_NE(found, expected) << name << ": the option does nothing";
    for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-4) << name << " " << i;
  }
  EXPECT_THROW(load_model(*testing::tiny_llama(), LatentForm::expanded), Error);
}

TEST(Families, MissingTensorIsNamed) {
  const auto checkpoint = testing::tiny_llama();
  checkpoint->remove("blk.1.attn_k.weight");
  EXPECT_NE(error_of(*checkpoint).find("blk.1.attn_k.weight"), std::string::npos);
}

TEST(Families, StrangeTensorIsRefused) {
  const auto checkpoint = testing::tiny_llama();
  checkpoint->add_random("blk.1.attn_q_norm.weight", {testing::kTinyHeadDim});
  EXPECT_NE(error_of(*checkpoint).find("attn_q_norm"), std::string::npos);
}

TEST(Families, WrongShapeIsNamed) {
  const auto checkpoint = testing::tiny_llama();
  checkpoint->remove("blk.2.ffn_down.weight");
  checkpoint->add_random("blk.2.ffn_down.weight", {testing::kTinyFf, testing::kTinyHidden});
  EXPECT_NE(error_of(*checkpoint).find("(24, 40)"), std::string::npos) << error_of(*checkpoint);
}

// Each changes one key of a sound model into something that must not run.
TEST(Families, BadHyperparametersAreRefused) {
  struct Case {
    std::string key;
    MetaValue value;
  };
  const Case cases[] = {
      {"llama.rope.freq_base", 0.5},
      {"llama.rope.freq_base", std::numeric_limits<double>::quiet_NaN()},
      {"llama.rope.dimension_count", int64_t{7}},
      {"llama.rope.dimension_count", testing::kTinyHeadDim + 2},
      {"llama.rope.scaling.type", std::string_view("longrope")},
      {"llama.rope.scaling.factor", -1.0},
      {"llama.attention.value_length", int64_t{0}},
      {"llama.attention.scale", -1.0},
      {"llama.attention.causal", false},
      {"llama.attn_logit_softcapping", 50.0},
      {"llama.logit_scale", 0.25},
      {"llama.expert_count", int64_t{1} << 40},
      {"llama.attention.temperature_scale", 0.1},  // and no length
      {"llama.something.new", int64_t{1}},
      {"millrace.something.new", true},
  };
  for (const Case& bad : cases) {
    const auto checkpoint = testing::tiny_llama();
    checkpoint->set(bad.key, bad.value);
    EXPECT_NE(error_of(*checkpoint), "") << bad.key;
  }
}

TEST(Families, LayersOfMultiTokenPredictionAreLeftOut) {
  const auto checkpoint = testing::tiny_deepseek2();
  const std::vector<int32_t> tokens = random_tokens(9, 1);
  const auto backend = make_reference_backend();
  const std::vector<float> without = run_alone(*load_model(*checkpoint), *backend, tokens, 0);
  checkpoint->add_random("blk.3.nextn.eh_proj.weight", {testing::kTinyHidden, 2 * testing::kTinyHidden});
  EXPECT_NE(error_of(*checkpoint).find("blk.3"), std::string::npos);
  checkpoint->set("deepseek2.block_count", testing::kTinyLayers + 1);
  checkpoint->set("deepseek2.nextn_predict_layers", int64_t{1});
  const auto model = load_model(*checkpoint);
  EXPECT_EQ(model->shape().n_layers, testing::kTinyLayers);
  EXPECT_EQ(run_alone(*model, *backend, tokens, 0), without);
}

// Two tensors of the experts of a block become one, expert by expert; false where there are none.
bool fuse(testing::MemoryCheckpoint& checkpoint, const std::string& block, std::string_view kind) {
  const auto name = [&](const char* part) { return fmt::format("{}ffn_{}_exps.{}", block, part, kind); };
  const Tensor* found[] = {checkpoint.find(name("gate")), checkpoint.find(name("up"))};
  if (found[0] == nullptr) return false;
  const Tensor gate = *found[0], up = *found[1];
  std::vector<int64_t> shape(gate.shape.begin(), gate.shape.begin() + gate.n_dims);
  shape[1] *= 2;
  checkpoint.add_random(name("gate_up"), shape);
  float* out = checkpoint.find(name("gate_up"))->f32();
  const int64_t n = gate.n_elems() / gate.dim(0);
  for (int64_t e = 0; e < gate.dim(0); ++e) {
    for (const Tensor& part : {gate, up}) out = std::copy_n(part.f32() + e * n, n, out);
  }
  checkpoint.remove(name("gate"));
  checkpoint.remove(name("up"));
  return true;
}

bool fuse_experts(testing::MemoryCheckpoint& checkpoint) {
  bool is_any = false;
  for (int64_t i = 0; i < 8; ++i) {
    is_any |= fuse(checkpoint, testing::block_name(i), "weight");
    fuse(checkpoint, testing::block_name(i), "bias");
  }
  return is_any;
}

TEST(Families, GateAndUpOfExpertsMayBeOneTensor) {
  const auto backend = make_reference_backend();
  const std::vector<int32_t> tokens = random_tokens(9, 1);
  int n_fused = 0;
  for (const auto& [name, checkpoint] : testing::tiny_models()) {
    const std::vector<float> apart = run_alone(*load_model(*checkpoint), *backend, tokens, 0);
    if (!fuse_experts(*checkpoint)) continue;
    EXPECT_EQ(run_alone(*load_model(*checkpoint), *backend, tokens, 0), apart) << name;
    checkpoint->add_random("blk.1.ffn_up_exps.weight", {testing::kTinyExperts, 1, 1});
    EXPECT_NE(error_of(*checkpoint).find("ffn_up_exps"), std::string::npos) << name;
    ++n_fused;
  }
  EXPECT_GE(n_fused, 8);
}

TEST(Families, ContradictionsOfLatentAttentionAreRefused) {
  struct Case {
    std::string key;
    MetaValue value;
  };
  const Case cases[] = {{"deepseek2.attention.key_length", int64_t{99}},
                        {"deepseek2.attention.head_count_kv", testing::kTinyHeads},
                        {"deepseek2.rope.dimension_count", int64_t{12}},
                        {"deepseek2.rope.dimension_count", int64_t{3}},
                        {"deepseek2.expert_group_count", int64_t{3}},
                        {"deepseek2.expert_gating_func", int64_t{5}},
                        {"deepseek2.attention.indexer.top_k", int64_t{4}}};
  for (const Case& bad : cases) {
    const auto checkpoint = testing::tiny_deepseek2();
    checkpoint->set(bad.key, bad.value);
    EXPECT_NE(error_of(*checkpoint), "") << bad.key;
  }
  const auto checkpoint = testing::tiny_deepseek2();
  checkpoint->remove("blk.2.attn_v_b.weight");
  EXPECT_NE(error_of(*checkpoint).find("attn_kv_b"), std::string::npos) << error_of(*checkpoint);
}

TEST(Families, BadDeltaNetsAreRefused) {
  const struct {
    const char* architecture;
    const char* key;
    MetaValue value;
  } cases[] = {
      {"qwen35", "ssm.inner_size", int64_t{23}},
      {"qwen35", "ssm.group_count", int64_t{3}},
      {"qwen35", "ssm.conv_kernel", int64_t{1}},
      {"qwen35", "full_attention_interval", int64_t{0}},
      {"qwen35", "attention.recurrent_layers", std::vector<bool>{true}},
      {"qwen3next", "ssm.v_head_reordered", true},
  };
  for (const auto& [architecture, key, value] : cases) {
    const auto checkpoint = testing::tiny_qwen35(architecture);
    checkpoint->set(std::string(architecture) + "." + key, value);
    EXPECT_NE(error_of(*checkpoint), "") << key;
  }
}

// The order of value heads changes what a file means.
TEST(Families, ValueHeadsAreGroupedOrTiled) {
  const auto backend = make_reference_backend();
  const std::vector<int32_t> tokens = random_tokens(9, 1);
  const auto tiled = testing::tiny_qwen35("qwen35"), grouped = testing::tiny_qwen35("qwen35");
  grouped->set("qwen35.ssm.v_head_reordered", false);
  EXPECT_NE(run_alone(*load_model(*tiled), *backend, tokens, 0),
            run_alone(*load_model(*grouped), *backend, tokens, 0));
}

// What one family does and another does not must not be asked of the other.
TEST(Families, SettingsOfOtherFamiliesAreRefused) {
  const std::pair<std::string_view, MetaValue> cases[] = {
      {"granite.attn_logit_softcapping", 50.0},
      {"command-r.attention.sliding_window", int64_t{16}},
      {"command-r.residual_scale", 0.5},
      {"cohere2.final_logit_softcapping", 30.0},
      {"cohere2.rope.scaling.type", std::string_view("longrope")},
      {"olmo2.attention.sliding_window", int64_t{16}},  // OLMo 3 has one
      {"olmo2.expert_count", int64_t{8}},
      {"starcoder2.logit_scale", 0.5},
      {"starcoder2.attention.layer_norm_rms_epsilon", 1e-5},
      {"glm4.attention.sliding_window", int64_t{16}},
      {"gemma3n.altup.active_idx", int64_t{1}},
      {"gemma3n.attn_logit_softcapping", 50.0},
      {"gemma4.attn_logit_softcapping", 50.0},
      {"gemma4.attention.value_length", testing::kTinyHeadDim},
      {"gemma4.rope.dimension_count", testing::kTinyHeadDim},
  };
  for (const auto& [key, value] : cases) {
    const std::string_view name = key.substr(0, key.find('.'));
    for (const auto& [family, checkpoint] : testing::tiny_models()) {
      if (family != name) continue;
      EXPECT_EQ(error_of(*checkpoint), "") << name;
      checkpoint->set(key, value);
      EXPECT_NE(error_of(*checkpoint).find(key), std::string::npos) << key << ": " << error_of(*checkpoint);
    }
  }
}

TEST(Families, BadSettingsOfExpertsAreRefused) {
  struct Case {
    std::unique_ptr<testing::MemoryCheckpoint> checkpoint;
    std::string key;
    MetaValue value;
  };
  std::vector<Case> cases;
  cases.push_back({testing::tiny_qwen3moe(), "qwen3moe.expert_gating_func", int64_t{9}});
  cases.push_back({testing::tiny_qwen3moe(), "qwen3moe.expert_group_count", int64_t{3}});
  cases.push_back(
      {testing::tiny_qwen3moe(), "qwen3moe.expert_group_count", int64_t{4}});  // of one expert each
  cases.back().checkpoint->set("qwen3moe.expert_group_used_count", int64_t{1});
  cases.push_back({testing::tiny_qwen3moe(), "qwen3moe.expert_shared_count", int64_t{1}});
  cases.push_back({testing::tiny_qwen3moe(), "qwen3moe.nextn_predict_layers", int64_t{3}});
  cases.push_back({testing::tiny_qwen2moe(), "qwen2moe.attention.sliding_window", int64_t{8}});
  cases.push_back({testing::tiny_qwen2moe(), "qwen2moe.leading_dense_block_count", int64_t{2}});
  cases.push_back({testing::tiny_llama4(), "llama4.attention.sliding_window", int64_t{8}});
  cases.push_back({testing::tiny_llama4(), "llama4.expert_shared_count", int64_t{2}});
  cases.push_back({testing::tiny_gpt_oss(), "gpt-oss.expert_shared_count", int64_t{1}});
  for (const Case& bad : cases) {
    bad.checkpoint->set(bad.key, bad.value);
    EXPECT_NE(error_of(*bad.checkpoint), "") << bad.key;
  }
}

TEST(Families, LayersThatDraftAreLeftOut) {
  const auto checkpoint = testing::tiny_glm4moe();
  EXPECT_EQ(load_model(*checkpoint)->shape().n_layers, testing::kTinyLayers - 1);
  // What lies behind the layers that the file speaks of is strange all the same.
  checkpoint->add_random("blk.3.nextn.eh_proj.weight", {testing::kTinyHidden, 2 * testing::kTinyHidden});
  EXPECT_NE(error_of(*checkpoint).find("blk.3.nextn"), std::string::npos);
}

// A sink as large as a score takes its share.
TEST(Families, SinksMatter) {
  const auto backend = make_reference_backend();
  const std::vector<int32_t> tokens = random_tokens(20, 1);
  const auto with_sinks = testing::tiny_gpt_oss();
  const auto far = testing::tiny_gpt_oss();
  for (int64_t i = 0; i < testing::kTinyLayers; ++i) {
    float* sinks = far->find(testing::block_name(i) + "attn_sinks.weight")->f32();
    std::fill_n(sinks, testing::kTinyHeads, -1e30f);
  }
  EXPECT_NE(run_alone(*load_model(*with_sinks), *backend, tokens, 0),
            run_alone(*load_model(*far), *backend, tokens, 0));
}

// What a file of Mistral Large 3 says beyond DeepSeek's: softmax routing, and queries that grow with
// position.
TEST(Families, LatentQueriesMayGrow) {
  const auto backend = make_reference_backend();
  const std::vector<int32_t> tokens = random_tokens(20, 1);
  const auto plain = testing::tiny_deepseek2(), growing = testing::tiny_deepseek2();
  for (testing::MemoryCheckpoint* each : {plain.get(), growing.get()}) {
    each->set("deepseek2.expert_gating_func", int64_t{1});
    for (int64_t i = 1; i < testing::kTinyLayers; ++i)
      each->remove(testing::block_name(i) + "exp_probs_b.bias");
  }
  growing->set("deepseek2.attention.temperature_scale", 0.1);
  growing->set("deepseek2.attention.temperature_length", int64_t{8});
  const std::vector<float> before = run_alone(*load_model(*plain), *backend, tokens, 0);
  const std::vector<float> after = run_alone(*load_model(*growing), *backend, tokens, 0);
  const auto eight_rows = 8 * testing::kTinyVocab;
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + eight_rows, after.begin()));
  EXPECT_FALSE(std::equal(before.begin() + eight_rows, before.end(), after.begin() + eight_rows));
}

TEST(Families, ExpertsOfTokensAreThere) {
  const auto checkpoint = testing::tiny_deepseek4();
  checkpoint->remove("blk.0.ffn_gate_tid2eid.weight");
  checkpoint->add_integers("blk.0.ffn_gate_tid2eid.weight", {testing::kTinyVocab, 2}, 100);
  EXPECT_NE(error_of(*checkpoint).find("names the expert"), std::string::npos) << error_of(*checkpoint);
}

TEST(Families, RunsThatDoNotDividePagesAreRefused) {
  for (const int64_t stride : {1, 6}) {
    const auto checkpoint = testing::tiny_deepseek4();
    checkpoint->set("deepseek4.attention.compress_ratios", std::vector<int64_t>{stride, 4, 8});
    EXPECT_NE(error_of(*checkpoint).find("compress_ratios"), std::string::npos) << error_of(*checkpoint);
  }
}

// Each asks for something that would change the numbers.
TEST(Families, PoolingIndexersOfOtherKindsAreRefused) {
  const std::pair<const char*, MetaValue> cases[] = {
      {"attention.indexer.kpool", int64_t{1}},
      {"attention.indexer.kpool", int64_t{6}},
      {"attention.indexer.top_k", int64_t{6}},
      {"attention.indexer.kpool_select_tail", false},
      {"attention.indexer.types", std::vector<bool>{true, false, true}},
      {"attention.q_lora_rank", int64_t{0}},
      {"kda.gate_lower_bound", 1.0},
  };
  for (const auto& [key, value] : cases) {
    const auto checkpoint = testing::tiny_glm5_next();
    checkpoint->set("glm5-next." + std::string(key), value);
    EXPECT_NE(error_of(*checkpoint).find(key), std::string::npos) << error_of(*checkpoint);
  }
  const auto checkpoint = testing::tiny_glm5_next();
  checkpoint->set("glm5-next.attention.indexer.kpool_select_tail", true);
  checkpoint->set("glm5-next.attention.indexer.types", std::vector<bool>{false, true, false});
  EXPECT_EQ(error_of(*checkpoint), "");
  EXPECT_EQ(error_of(*testing::tiny_glm5_next("glm5next")), "");  // the other name in files
}

// One must rotate some dimensions of a key, the other none.
TEST(Families, LatentAttentionRotatesAsItsArchitectureDoes) {
  const auto with = [](testing::MemoryCheckpoint& model, const std::string& prefix, int64_t n_rotary) {
    const auto rank = model.metadata().need<int64_t>(prefix + "attention.kv_lora_rank");
    model.set(prefix + "rope.dimension_count", n_rotary);
    model.set(prefix + "attention.key_length", rank + n_rotary);
    return error_of(model);
  };
  const std::string still = with(*testing::tiny_deepseek2(), "deepseek2.", 0);
  EXPECT_NE(still.find("rope.dimension_count"), std::string::npos) << still;
  const std::string turning = with(*testing::tiny_glm5_next(), "glm5-next.", 4);
  EXPECT_NE(turning.find("rope.dimension_count"), std::string::npos) << turning;
}

TEST(Families, KeysThatAskForNothingAreFine) {
  const auto checkpoint = testing::tiny_llama();
  checkpoint->set("llama.vocab_size", int64_t{32});
  checkpoint->set("llama.logit_scale", 1.0);
  checkpoint->set("llama.expert_count", int64_t{0});
  checkpoint->set("llama.attention.causal", true);
  checkpoint->set("other.attention.scale", 3.0);
  EXPECT_EQ(error_of(*checkpoint), "");
}

}  // namespace
}  // namespace millrace
