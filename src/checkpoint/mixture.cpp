// The rules stand in llama.cpp's src/llama-quant.cpp; a few of their oddities (layers counted in the order of
// names, 8 experts as a special case) are kept on purpose: files of one name have one content.
#include "checkpoint/mixture.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <numeric>

namespace millrace {
namespace {

constexpr Mixture kMixtures[] = {
    {"F32", Recipe::one_format, Dtype::f32, 0},      {"F16", Recipe::one_format, Dtype::f16, 1},
    {"BF16", Recipe::one_format, Dtype::bf16, 32},   {"Q4_0", Recipe::one_format, Dtype::q4_0, 2},
    {"Q4_1", Recipe::one_format, Dtype::q4_1, 3},    {"Q5_0", Recipe::one_format, Dtype::q5_0, 8},
    {"Q5_1", Recipe::one_format, Dtype::q5_1, 9},    {"Q8_0", Recipe::one_format, Dtype::q8_0, 7},
    {"Q2_K", Recipe::q2_k, Dtype::q2_k, 10},         {"Q2_K_S", Recipe::q2_k_s, Dtype::q2_k, 21},
    {"Q3_K_S", Recipe::one_format, Dtype::q3_k, 11}, {"Q3_K_M", Recipe::q3_k_m, Dtype::q3_k, 12},
    {"Q3_K_L", Recipe::q3_k_l, Dtype::q3_k, 13},     {"Q4_K_S", Recipe::q4_k_s, Dtype::q4_k, 14},
    {"Q4_K_M", Recipe::q4_k_m, Dtype::q4_k, 15},     {"Q5_K_S", Recipe::one_format, Dtype::q5_k, 16},
    {"Q5_K_M", Recipe::q5_k_m, Dtype::q5_k, 17},     {"Q6_K", Recipe::one_format, Dtype::q6_k, 18},
    {"IQ4_NL", Recipe::iq4, Dtype::iq4_nl, 25},      {"IQ4_XS", Recipe::iq4, Dtype::iq4_xs, 30},
    {"MXFP4", Recipe::one_format, Dtype::mxfp4, 38}, {"MXFP4_MOE", Recipe::mxfp4_moe, Dtype::mxfp4, 38},
};

char upper(char c) { return static_cast<char>(std::toupper(static_cast<unsigned char>(c))); }

enum class Role { token_embd, output, attn_k, attn_v, attn_output, ffn_down, other };

// attn_qkv and attn_kv_b hold values too, and count as attn_v.
Role role_of(std::string_view name) {
  const auto has = [name](std::string_view part) { return name.find(part) != std::string_view::npos; };
  if (name == "output.weight") return Role::output;
  if (name == "token_embd.weight" || name == "per_layer_token_embd.weight") return Role::token_embd;
  if (has("attn_qkv.weight") || has("attn_kv_b.weight") || has("attn_v.weight")) return Role::attn_v;
  if (has("attn_k.weight")) return Role::attn_k;
  if (has("attn_output.weight")) return Role::attn_output;
  return has("ffn_down") ? Role::ffn_down : Role::other;
}

bool is_quantised(const NamedTensor& named) {
  static constexpr std::string_view kKept[] = {"_norm.weight",
                                               "ffn_gate_inp.weight",
                                               "ffn_gate_tid2eid.weight",
                                               "altup",
                                               "laurel",
                                               "per_layer_model_proj",
                                               "ssm_conv1d",
                                               "shortconv.conv.weight",
                                               "indexer.k_proj.weight",
                                               "indexer.q_proj.weight"};
  const std::string_view name = named.name;
  // A matrix of one row is a vector in ggml.
  const bool is_matrix = named.tensor.n_dims >= 2 && named.tensor.n_rows() > 1;
  return is_matrix && named.tensor.dtype != Dtype::i32 && name.ends_with("weight") &&
         name != "position_embd.weight" && name != "token_types.weight" &&
         std::ranges::none_of(kKept, [&](auto part) { return name.find(part) != name.npos; });
}

// N of "blk.N.", or -1.
int64_t layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "blk.";
  int64_t layer = -1;
  if (name.starts_with(kPrefix))
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), layer);
  return layer;
}

// The first and the last eighth of the layers, and every third between.
bool is_favoured(int64_t i, int64_t n) { return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2; }

// What stands in for a format whose blocks do not divide a row.
Dtype replacement_of(Dtype wanted, int64_t n_cols) {
  const auto smaller = [wanted] {
    switch (wanted) {
      case Dtype::q2_k:
      case Dtype::q3_k:
        return Dtype::q4_0;
      case Dtype::q4_k:
        return Dtype::q5_0;
      case Dtype::q5_k:
        return Dtype::q5_1;
      case Dtype::q6_k:
        return Dtype::q8_0;
      case Dtype::iq4_xs:
        return Dtype::iq4_nl;
      default:
        return Dtype::f16;
    }
  }();
  return n_cols % format_of(smaller).block_elems == 0 ? smaller : Dtype::f16;
}

class Chooser {
 public:
  Chooser(const Checkpoint& checkpoint, const MixtureOptions& options)
      : options_(options), recipe_(options.mixture->recipe), base_(options.mixture->base) {
    const Metadata& metadata = checkpoint.metadata();
    arch_ = metadata.need<std::string_view>("general.architecture");
    n_layers_ = metadata.need<int64_t>(fmt::format("{}.block_count", arch_));
    n_experts_ = metadata.get_or<int64_t>(fmt::format("{}.expert_count", arch_), 0);
    const int64_t n_kv_heads = first_of(metadata, "attention.head_count_kv");
    group_ = n_kv_heads > 0 ? first_of(metadata, "attention.head_count") / n_kv_heads : 0;
    for (const NamedTensor& named : checkpoint.tensors()) {
      n_attn_v_ += role_of(named.name) == Role::attn_v ? 1 : 0;
      is_tied_ = is_tied_ && role_of(named.name) != Role::output;
    }
  }

  FormatChoice choose(const NamedTensor& named) {
    const WeightRule* rule = rule_of(named.name);
    const bool is_kept = rule != nullptr && !rule->dtype;
    if (is_kept || !is_quantised(named)) return {gguf_dtype_of(named.tensor.dtype), std::nullopt};
    const Dtype wanted = wanted_for(named);
    const int64_t n_cols = named.tensor.n_cols();
    if (n_cols % format_of(wanted).block_elems == 0) return {wanted, std::nullopt};
    return {replacement_of(wanted, n_cols), wanted};
  }

 private:
  // A number, or one for each layer; then that of the first.
  int64_t first_of(const Metadata& metadata, std::string_view key) const {
    const MetaValue* value = metadata.find(fmt::format("{}.{}", arch_, key));
    if (value == nullptr) return 0;
    if (const auto* all = std::get_if<std::vector<int64_t>>(value)) return all->empty() ? 0 : all->front();
    const auto* one = std::get_if<int64_t>(value);
    return one == nullptr ? 0 : *one;
  }

  const WeightRule* rule_of(std::string_view name) const {
    const auto at = std::ranges::find_if(options_.weight_rules, [name](const WeightRule& rule) {
      return name.find(rule.part) != std::string_view::npos;
    });
    return at == options_.weight_rules.end() ? nullptr : &*at;
  }

  Dtype wanted_for(const NamedTensor& named) {
    const Role role = role_of(named.name);
    if (role == Role::token_embd && options_.token_embedding) return *options_.token_embedding;
    if (role == Role::output && options_.output) return *options_.output;
    if (format_of(base_).block_elems == 1) return base_;
    for (const auto& [pattern, dtype] : options_.by_name) {
      if (std::regex_search(named.name, pattern)) return dtype;
    }
    if (options_.is_pure) return base_;
    const WeightRule* rule = rule_of(named.name);
    return rule != nullptr ? *rule->dtype : by_recipe(named, role);
  }

  Dtype by_recipe(const NamedTensor& named, Role role) {
    if (role == Role::output || (role == Role::token_embd && is_tied_)) return for_output(named.tensor);
    if (recipe_ == Recipe::mxfp4_moe) return is_stack(named.tensor) ? Dtype::mxfp4 : Dtype::q8_0;
    switch (role) {
      case Role::attn_v:
        return for_attn_v(i_attn_v_++);
      case Role::attn_k:
        return n_experts_ == 8 ? Dtype::q8_0 : base_;
      case Role::attn_output:
        return for_attn_output();
      case Role::ffn_down:
        return for_ffn_down(ffn_layer(named.name));
      default:
        return base_;
    }
  }

  // Several matrices: one for each expert.
  static bool is_stack(const Tensor& tensor) { return tensor.n_dims == 3 && tensor.dim(0) > 1; }

  Dtype for_output(const Tensor& tensor) const {
    if (options_.output) return *options_.output;
    const bool has_whole_blocks = tensor.n_cols() % format_of(base_).block_elems == 0;
    if (recipe_ == Recipe::mxfp4_moe || base_ == Dtype::q8_0 || !has_whole_blocks) return Dtype::q8_0;
    return Dtype::q6_k;
  }

  Dtype for_attn_v(int64_t i) const {
    if (n_experts_ == 8) return Dtype::q8_0;
    const Dtype dtype = [&] {
      switch (recipe_) {
        case Recipe::q2_k:
          return group_ >= 4 ? Dtype::q4_k : Dtype::q3_k;
        case Recipe::q2_k_s:
          return group_ >= 4 ? Dtype::q4_k : base_;
        case Recipe::q3_k_m:
          return i < 2 ? Dtype::q5_k : Dtype::q4_k;
        case Recipe::q3_k_l:
          return Dtype::q5_k;
        case Recipe::q4_k_s:
          return i < 4 ? Dtype::q5_k : base_;
        case Recipe::q4_k_m:
        case Recipe::q5_k_m:
          return is_favoured(i, n_attn_v_) ? Dtype::q6_k : base_;
        case Recipe::iq4:
          return group_ >= 4 ? Dtype::q5_k : base_;
        default:
          return base_;
      }
    }();
    const bool is_small = dtype == Dtype::q3_k || dtype == Dtype::q4_k;
    const bool is_shared = options_.shares_values_at_80_layers && n_layers_ == 80 && group_ != 1;
    return is_shared && is_small ? Dtype::q5_k : dtype;
  }

  Dtype for_attn_output() const {
    if (n_experts_ == 8) {
      const bool is_raised = recipe_ == Recipe::q2_k || recipe_ == Recipe::q3_k_m ||
                             recipe_ == Recipe::q4_k_s || recipe_ == Recipe::q4_k_m ||
                             recipe_ == Recipe::iq4 || is_q3_k_s();
      return is_raised ? Dtype::q5_k : base_;
    }
    switch (recipe_) {
      case Recipe::q2_k:
        return Dtype::q3_k;
      case Recipe::q3_k_m:
        return Dtype::q4_k;
      case Recipe::q3_k_l:
        return Dtype::q5_k;
      default:
        return base_;
    }
  }

  bool is_q3_k_s() const { return recipe_ == Recipe::one_format && base_ == Dtype::q3_k; }

  // Experts lie anywhere in a file: then the name says the layer, else the count so far.
  int64_t ffn_layer(std::string_view name) {
    const int64_t i = i_ffn_down_++;
    if (n_experts_ <= 1) return i;
    const int64_t layer = layer_of(name);
    if (layer >= 0 && layer < n_layers_) return layer;
    fail(ErrorKind::bad_model, "tensor {} belongs to none of the {} layers", printable(name), n_layers_);
  }

  Dtype for_ffn_down(int64_t i) const {
    const bool is_first_eighth = i < n_layers_ / 8;
    switch (recipe_) {
      case Recipe::q2_k:
        return Dtype::q3_k;
      case Recipe::q2_k_s:
        return is_first_eighth ? Dtype::q4_k : base_;
      case Recipe::q3_k_m:
        return i < n_layers_ / 16 ? Dtype::q5_k : Dtype::q4_k;
      case Recipe::q3_k_l:
        return Dtype::q5_k;
      case Recipe::q4_k_s:
        return is_first_eighth ? Dtype::q5_k : base_;
      case Recipe::q4_k_m:
      case Recipe::q5_k_m:
        return is_favoured(i, n_layers_) ? Dtype::q6_k : base_;
      case Recipe::iq4:
        return is_first_eighth && !options_.has_importance ? Dtype::q5_k : base_;
      default:
        break;
    }
    if (is_first_eighth && options_.has_importance && base_ == Dtype::q4_0) return Dtype::q4_1;
    if (is_first_eighth && options_.has_importance && base_ == Dtype::q5_0) return Dtype::q5_1;
    return base_;
  }

  const MixtureOptions& options_;
  Recipe recipe_;
  Dtype base_;
  std::string_view arch_;
  int64_t n_layers_, n_experts_;
  int64_t group_;  // query heads that share a key-value head
  bool is_tied_ = true;
  int64_t n_attn_v_ = 0, i_attn_v_ = 0, i_ffn_down_ = 0;
};

}  // namespace

std::span<const Mixture> all_mixtures() { return kMixtures; }

const Mixture* find_mixture(std::string_view name) {
  std::string upper_name(name);
  std::ranges::transform(upper_name, upper_name.begin(), upper);
  if (upper_name == "Q3_K" || upper_name == "Q4_K" || upper_name == "Q5_K") upper_name += "_M";
  const auto* found = std::ranges::find(kMixtures, std::string_view(upper_name), &Mixture::name);
  return found == std::end(kMixtures) ? nullptr : found;
}

std::vector<FormatChoice> choose_formats(const Checkpoint& checkpoint, const MixtureOptions& options) {
  const auto tensors = checkpoint.tensors();
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) {
    return std::pair(layer_of(tensors[i].name), std::string_view(tensors[i].name));
  });
  Chooser chooser(checkpoint, options);
  std::vector<FormatChoice> choices(tensors.size());
  for (const size_t i : order) choices[i] = chooser.choose(tensors[i]);
  return choices;
}

}  // namespace millrace
