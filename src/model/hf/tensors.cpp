#include "model/hf/tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <optional>

#include "base/log.h"

namespace millrace {
namespace {

// What decoders have in common: nearly all of them, those with experts, with latent attention and its
// indexer, with Kimi delta attention. A rule of the class for the same tensor goes before these.
constexpr HfTensorRule kCommonRules[] = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
    {"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"},
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"},
    {"model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight"},
    {"model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias"},
    {"model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight"},
    {"model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias"},
    {"model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight"},
    {"model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias"},
    {"model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight"},
    {"model.layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias"},
    {"model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"},
    {"model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"},
    {"model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight"},
    {"model.layers.{}.mlp.gate_proj.bias", "blk.{}.ffn_gate.bias"},
    {"model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight"},
    {"model.layers.{}.mlp.up_proj.bias", "blk.{}.ffn_up.bias"},
    {"model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"},
    {"model.layers.{}.mlp.down_proj.bias", "blk.{}.ffn_down.bias"},
    {"model.layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"model.layers.{}.mlp.gate.e_score_correction_bias", "blk.{}.exp_probs_b.bias"},
    {"model.layers.{}.mlp.experts.{e}.gate_proj.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.mlp.experts.{e}.up_proj.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.mlp.experts.{e}.down_proj.weight", "blk.{}.ffn_down_exps.weight"},
    {"model.layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_gate_exps.weight", HfChange::first_half},
    {"model.layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_up_exps.weight", HfChange::second_half},
    {"model.layers.{}.mlp.experts.down_proj", "blk.{}.ffn_down_exps.weight"},
    {"model.layers.{}.mlp.shared_expert.gate_proj.weight", "blk.{}.ffn_gate_shexp.weight"},
    {"model.layers.{}.mlp.shared_expert.up_proj.weight", "blk.{}.ffn_up_shexp.weight"},
    {"model.layers.{}.mlp.shared_expert.down_proj.weight", "blk.{}.ffn_down_shexp.weight"},
    {"model.layers.{}.mlp.shared_expert_gate.weight", "blk.{}.ffn_gate_inp_shexp.weight", HfChange::as_f32},
    {"model.layers.{}.mlp.shared_experts.gate_proj.weight", "blk.{}.ffn_gate_shexp.weight"},
    {"model.layers.{}.mlp.shared_experts.up_proj.weight", "blk.{}.ffn_up_shexp.weight"},
    {"model.layers.{}.mlp.shared_experts.down_proj.weight", "blk.{}.ffn_down_shexp.weight"},
    {"model.layers.{}.self_attn.q_a_proj.weight", "blk.{}.attn_q_a.weight"},
    {"model.layers.{}.self_attn.q_a_layernorm.weight", "blk.{}.attn_q_a_norm.weight"},
    {"model.layers.{}.self_attn.q_b_proj.weight", "blk.{}.attn_q_b.weight"},
    {"model.layers.{}.self_attn.kv_a_proj_with_mqa.weight", "blk.{}.attn_kv_a_mqa.weight"},
    {"model.layers.{}.self_attn.kv_a_layernorm.weight", "blk.{}.attn_kv_a_norm.weight"},
    {"model.layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_k_b.weight", HfChange::latent_keys},
    {"model.layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_v_b.weight", HfChange::latent_values},
    {"model.layers.{}.self_attn.indexer.wq_b.weight", "blk.{}.indexer.attn_q_b.weight"},
    {"model.layers.{}.self_attn.indexer.wk.weight", "blk.{}.indexer.attn_k.weight"},
    {"model.layers.{}.self_attn.indexer.k_norm.weight", "blk.{}.indexer.k_norm.weight"},
    {"model.layers.{}.self_attn.indexer.k_norm.bias", "blk.{}.indexer.k_norm.bias"},
    {"model.layers.{}.self_attn.indexer.weights_proj.weight", "blk.{}.indexer.proj.weight"},
    {"model.layers.{}.self_attn.q_conv1d.weight", "blk.{}.ssm_conv1d_q.weight", HfChange::as_f32},
    {"model.layers.{}.self_attn.k_conv1d.weight", "blk.{}.ssm_conv1d_k.weight", HfChange::as_f32},
    {"model.layers.{}.self_attn.v_conv1d.weight", "blk.{}.ssm_conv1d_v.weight", HfChange::as_f32},
    {"model.layers.{}.self_attn.b_proj.weight", "blk.{}.ssm_beta.weight"},
    {"model.layers.{}.self_attn.f_a_proj.weight", "blk.{}.ssm_f_a.weight"},
    {"model.layers.{}.self_attn.f_b_proj.weight", "blk.{}.ssm_f_b.weight"},
    {"model.layers.{}.self_attn.g_a_proj.weight", "blk.{}.ssm_g_a.weight"},
    {"model.layers.{}.self_attn.g_b_proj.weight", "blk.{}.ssm_g_b.weight"},
    {"model.layers.{}.self_attn.A_log", "blk.{}.ssm_a", HfChange::negative_exp},
    {"model.layers.{}.self_attn.dt_bias", "blk.{}.ssm_dt.bias"},
    {"model.layers.{}.self_attn.o_norm.weight", "blk.{}.ssm_norm.weight"},
};

constexpr int64_t kMaxExperts = 4096;

// A tensor's name with its numbers taken out.
struct Pattern {
  std::string text;     // "model.layers.{}.mlp.experts.{e}.up_proj.weight"
  std::string layer;    // "3", or empty
  int64_t expert = -1;  // -1: none
};

Pattern pattern_of(std::string_view name) {
  Pattern pattern;
  std::string_view previous;
  for (size_t at = 0; at <= name.size();) {
    const std::string_view segment = name.substr(at, name.find('.', at) - at);
    const bool is_number = !segment.empty() && segment.size() <= 6 &&
                           std::ranges::all_of(segment, [](char c) { return c >= '0' && c <= '9'; });
    if (at > 0) pattern.text += '.';
    if (is_number && (previous == "layers" || previous == "layer")) {
      pattern.text += "{}";
      pattern.layer = segment;
    } else if (is_number && (previous == "experts" || previous.ends_with("_projections"))) {
      pattern.text += "{e}";
      pattern.expert = std::stoll(std::string(segment));
    } else {
      pattern.text += segment;
    }
    previous = segment;
    at += segment.size() + 1;
  }
  return pattern;
}

// The name without the part that says "this is the text half of a larger model", and with "model." for
// `body`.
std::string text_name(std::string_view name, std::string_view body) {
  for (const std::string_view prefix : {"model.language_model.", "language_model.model."}) {
    if (name.starts_with(prefix)) return "model." + std::string(name.substr(prefix.size()));
  }
  if (name.starts_with("language_model.")) name.remove_prefix(std::string_view("language_model.").size());
  const bool is_of_body = name.starts_with(body) && name.substr(body.size()).starts_with('.');
  return is_of_body ? "model" + std::string(name.substr(body.size())) : std::string(name);
}

// Formats of integers, whose values Q8_Z holds.
bool is_of_integers(const HfPart& part) {
  const Dtype dtype = part.tensor.dtype;
  return part.packed != nullptr &&
         (dtype == Dtype::q4_0 || dtype == Dtype::q8_0 || dtype == Dtype::q4_z || dtype == Dtype::q8_z);
}

// The elements of a part, where they lie or laid out in `memory`.
const std::byte* elements_of(const HfPart& part, Dtype dtype, std::vector<std::byte>& memory) {
  if (part.packed == nullptr) return part.tensor.data;
  Tensor layout = part.tensor;
  layout.dtype = dtype;
  memory.resize(static_cast<size_t>(layout.n_bytes()));
  part.packed->write(dtype, memory.data());
  return memory.data();
}

// The rows of a tensor as numbers, one after the other.
void decode_rows(const Tensor& tensor, float* out) {
  for (int64_t row = 0; row < tensor.n_rows(); ++row)
    format_of(tensor.dtype).decode(tensor.row(row), out + row * tensor.n_cols(), tensor.n_cols());
}

// The tensor in float32, which lies in `memory`.
Tensor decoded(Tensor tensor, std::vector<std::byte>& memory) {
  memory.resize(static_cast<size_t>(tensor.n_elems()) * sizeof(float));
  decode_rows(tensor, reinterpret_cast<float*>(memory.data()));
  tensor.dtype = Dtype::f32;
  tensor.data = memory.data();
  return tensor;
}

std::vector<const HfTensorRule*> rules_for(std::string_view pattern, const HfModelClass& model_class) {
  std::vector<const HfTensorRule*> found;
  for (const HfTensorRule& rule : model_class.tensors) {
    if (rule.hf == pattern) found.push_back(&rule);
  }
  if (found.empty()) {
    for (const HfTensorRule& rule : kCommonRules) {
      if (rule.hf == pattern) found.push_back(&rule);
    }
  }
  return found;
}

std::string gguf_name(const HfTensorRule& rule, const Pattern& pattern) {
  std::string name(rule.gguf);
  const size_t at = name.find("{}");
  return at == std::string::npos ? name : name.replace(at, 2, pattern.layer);
}

// Of "blk.3.attn_q.weight": 3; of the others: -1.
int64_t layer_of(std::string_view name) {
  return name.starts_with("blk.") ? std::stoll(std::string(name.substr(4))) : -1;
}

// What a change does with the outputs of each expert.
struct OutputChange {
  bool is_any = false;
  bool is_transposed = false;
  int64_t n_fused = 1;  // of gate and up in one tensor: 2
};

OutputChange changes_outputs(HfChange change) {
  switch (change) {
    case HfChange::first_half:
    case HfChange::second_half:
    case HfChange::even:
    case HfChange::odd:
      return {true, false, 2};
    case HfChange::first_half_transposed:
    case HfChange::second_half_transposed:
    case HfChange::even_transposed:
    case HfChange::odd_transposed:
      return {true, true, 2};
    case HfChange::transposed:
      return {true, true, 1};
    default:
      return {};
  }
}

// Rows of each expert: `n` from `first` on, every `step`-th.
struct RowChoice {
  int64_t first;
  int64_t step;
  int64_t n;
};

RowChoice rows_of(HfChange change, int64_t n_rows) {
  switch (change) {
    case HfChange::first_half:
    case HfChange::first_half_transposed:
      return {0, 1, n_rows / 2};
    case HfChange::second_half:
    case HfChange::second_half_transposed:
      return {n_rows / 2, 1, n_rows / 2};
    case HfChange::even:
    case HfChange::even_transposed:
      return {0, 2, n_rows / 2};
    case HfChange::odd:
    case HfChange::odd_transposed:
      return {1, 2, n_rows / 2};
    default:
      return {0, 1, n_rows};
  }
}

// What is left of a change of experts that have been transposed already.
HfChange without_transposition(HfChange change) {
  switch (change) {
    case HfChange::first_half_transposed:
      return HfChange::first_half;
    case HfChange::second_half_transposed:
      return HfChange::second_half;
    case HfChange::even_transposed:
      return HfChange::even;
    case HfChange::odd_transposed:
      return HfChange::odd;
    default:
      return HfChange::none;
  }
}

struct Columns {
  const std::byte* from;  // (n_in, n_columns)
  int64_t n_in;
  int64_t n_columns;
  size_t elem_bytes;
};

// Chosen columns of a matrix, each as a row. Some columns at a time, so that a line of memory that is read is
// used as a whole.
void write_transposed(const Columns& matrix, const RowChoice& choice, std::byte* out) {
  constexpr int64_t kAtOnce = 32;
  const auto at = [&](int64_t i) { return static_cast<size_t>(i) * matrix.elem_bytes; };
  for (int64_t begin = 0; begin < choice.n; begin += kAtOnce) {
    const int64_t end = std::min(choice.n, begin + kAtOnce);
    for (int64_t j = 0; j < matrix.n_in; ++j) {
      const std::byte* row = matrix.from + at(j * matrix.n_columns);
      for (int64_t i = begin; i < end; ++i)
        std::memcpy(out + at(i * matrix.n_in + j), row + at(choice.first + i * choice.step),
                    matrix.elem_bytes);
    }
  }
}

}  // namespace

bool is_buffer(std::string_view name) {
  return name.ends_with("rotary_emb.inv_freq") || name.ends_with("embeddings.position_ids");
}

bool is_of_tower(std::string_view name) {
  constexpr std::string_view kTowers[] = {"vision_tower.",   "vision_model.",
                                          "visual.",         "audio_tower.",
                                          "embed_vision.",   "embed_audio.",
                                          "mm_projector.",   "multi_modal_projector.",
                                          "vision_encoder.", "vision_language_adapter.",
                                          "patch_merger.",   "pre_mm_projector_norm."};
  if (name.starts_with("model.")) name.remove_prefix(std::string_view("model.").size());
  return std::ranges::any_of(kTowers, [name](std::string_view tower) { return name.starts_with(tower); });
}

void HfTensor::add_part(int64_t expert, const HfPart& part) {
  is_stacked_ = expert >= 0;
  const auto index = static_cast<size_t>(std::max<int64_t>(expert, 0));
  if (expert >= kMaxExperts) fail(ErrorKind::bad_model, "{} has an expert {}", name_, expert);
  if (parts_.size() <= index) parts_.resize(index + 1);
  if (parts_[index].tensor) fail(ErrorKind::bad_model, "two tensors of the checkpoint make {}", name_);
  parts_[index] = part;
}

void HfTensor::finish(const HeadCounts& heads) {
  heads_ = heads;
  if (is_transposed()) transpose_packed();
  settle_format();
  if (layout_.n_dims == 0 || layout_.n_elems() == 0) {
    fail(ErrorKind::bad_model, "{} is {}, expected a vector or matrix with elements", name_,
         shape_text(layout_));
  }
  if (is_stacked_) {
    if (layout_.n_dims != 2) fail(ErrorKind::bad_model, "the experts of {} should be matrices", name_);
    layout_.n_dims = 3;
    const Tensor& matrix = parts_[0].tensor;
    layout_.shape = {std::ssize(parts_), matrix.dim(0), matrix.dim(1), 1};
  }
  if (change_ == HfChange::pair_q_heads || change_ == HfChange::pair_k_heads) {
    n_paired_heads_ = change_ == HfChange::pair_q_heads ? heads.n_heads : heads.n_kv_heads;
    if (layout_.dim(0) % (2 * n_paired_heads_) != 0) {
      fail(ErrorKind::bad_model, "{} {} does not divide into the pairs of {} heads", name_,
           shape_text(layout_), n_paired_heads_);
    }
  }
  if (changes_outputs(change_).is_any) settle_rows();
  if (is_latent()) settle_latent();
  settle_order();
  const bool becomes_f32 = layout_.n_dims == 1 || name_.ends_with(".bias") || change_ == HfChange::as_f32 ||
                           change_ == HfChange::add_one || change_ == HfChange::taps ||
                           change_ == HfChange::negative_exp;
  const bool keeps_elements = change_ == HfChange::none || change_ == HfChange::as_f32 ||
                              change_ == HfChange::rows || change_ == HfChange::columns ||
                              change_ == HfChange::taps;
  const bool is_as_stored = !is_stacked_ && keeps_elements && order_.empty();
  if (!is_as_stored || (becomes_f32 && layout_.dtype != Dtype::f32)) layout_.data = nullptr;
  if (becomes_f32) layout_.dtype = Dtype::f32;
}

// Quantised experts lay themselves out the other way round, where they can; the others are refused.
void HfTensor::transpose_packed() {
  if (parts_.size() != 1 || parts_[0].packed == nullptr) return;
  std::shared_ptr<const PackedWeight> other = parts_[0].packed->transposed();
  if (other == nullptr) return;
  parts_[0] = {parts_[0].name, other->layout(), other};
  change_ = without_transposition(change_);
}

bool HfTensor::is_transposed() const { return changes_outputs(change_).is_transposed; }

void HfTensor::settle_rows() {
  const bool is_bias = name_.ends_with(".bias");
  const bool has_shape = parts_.size() == 1 && layout_.n_dims == (is_bias ? 2 : 3);
  if (!has_shape || (is_transposed() && format_of(stored_).block_elems != 1)) {
    fail(ErrorKind::bad_model, "the experts of {} are {}, expected {}", name_, shape_text(layout_),
         is_bias           ? "a vector for each expert"
         : is_transposed() ? "plain numbers (experts, inputs, outputs)"
                           : "(experts, outputs, inputs)");
  }
  if (is_transposed()) std::swap(layout_.shape[1], layout_.shape[2]);
  const int64_t n_rows = layout_.dim(1);
  layout_.shape[1] = rows_of(change_, n_rows).n;
  if (n_rows % changes_outputs(change_).n_fused != 0)
    fail(ErrorKind::bad_model, "the fused tensor of {} has {} rows, expected an even number", name_, n_rows);
}

void HfTensor::write_chosen_rows(std::byte* out) const {
  std::vector<std::byte> memory;
  Tensor part = parts_[0].tensor;  // (experts, rows, ...), or (experts, inputs, rows)
  part.dtype = stored_;
  part.data = const_cast<std::byte*>(elements_of(parts_[0], stored_, memory));  // only read
  const int64_t n_rows = part.dim(is_transposed() ? 2 : 1);
  const RowChoice choice = rows_of(change_, n_rows);
  const int64_t expert_bytes = part.n_bytes() / part.dim(0);
  const int64_t row_bytes = expert_bytes / n_rows;
  for (int64_t e = 0; e < part.dim(0); ++e, out += choice.n * row_bytes) {
    const std::byte* from = part.data + e * expert_bytes;
    if (is_transposed()) {
      const auto elem_bytes = static_cast<size_t>(format_of(stored_).block_bytes);
      write_transposed({from, part.dim(1), n_rows, elem_bytes}, choice, out);
      continue;
    }
    for (int64_t i = 0; i < choice.n; ++i) {
      std::memcpy(out + i * row_bytes, from + (choice.first + i * choice.step) * row_bytes,
                  static_cast<size_t>(row_bytes));
    }
  }
}

bool HfTensor::is_latent() const {
  return change_ == HfChange::latent_keys || change_ == HfChange::latent_values;
}

// kv_b has the rows of each head after each other, those of its key before those of its value. Blocks of
// quantised rows cannot be transposed: those keys become numbers, the same ones.
void HfTensor::settle_latent() {
  const Tensor& part = parts_[0].tensor;
  const int64_t n_rows = heads_.n_heads * (heads_.nope_dim + heads_.v_head_dim);
  if (parts_.size() != 1 || part.n_dims != 2 || part.dim(0) != n_rows) {
    fail(ErrorKind::bad_model, "the parts of {} are {}, expected a matrix of {} rows", name_,
         shape_text(part), n_rows);
  }
  const int64_t rank = part.dim(1);
  layout_.n_dims = 3;
  if (change_ == HfChange::latent_values) {
    layout_.shape = {heads_.n_heads, heads_.v_head_dim, rank, 1};
    return;
  }
  layout_.shape = {heads_.n_heads, rank, heads_.nope_dim, 1};
  if (format_of(stored_).block_elems != 1) layout_.dtype = Dtype::f32;
}

void HfTensor::write_latent(std::byte* out) const {
  std::vector<std::byte> memory, numbers;
  Tensor part = parts_[0].tensor;
  part.dtype = stored_;
  part.data = const_cast<std::byte*>(elements_of(parts_[0], stored_, memory));  // only read
  if (layout_.dtype != stored_) part = decoded(part, numbers);
  const int64_t head_rows = heads_.nope_dim + heads_.v_head_dim;
  const int64_t rank = part.dim(1);
  const auto elem_bytes = static_cast<size_t>(format_of(part.dtype).block_bytes);
  for (int64_t h = 0; h < heads_.n_heads; ++h) {
    const std::byte* head = part.row(h * head_rows);
    if (change_ == HfChange::latent_values) {
      const int64_t n_bytes = heads_.v_head_dim * part.row_bytes();
      std::memcpy(out, head + heads_.nope_dim * part.row_bytes(), static_cast<size_t>(n_bytes));
      out += n_bytes;
      continue;
    }
    for (int64_t j = 0; j < rank; ++j) {
      for (int64_t i = 0; i < heads_.nope_dim; ++i, out += elem_bytes)
        std::memcpy(out, head + static_cast<size_t>(i * rank + j) * elem_bytes, elem_bytes);
    }
  }
}

void HfTensor::settle_order() {
  if (change_ == HfChange::taps) {
    if (layout_.n_dims != 3 || layout_.dim(1) != 1) {
      fail(ErrorKind::bad_model, "the convolution of {} is {}, expected (channels, 1, taps)", name_,
           shape_text(layout_));
    }
    layout_ = layout_.reshaped({layout_.dim(0), layout_.dim(2)});
  }
  if (order_.empty()) return;
  const bool is_of_columns = change_ == HfChange::columns;
  const int64_t n = is_of_columns ? layout_.n_cols() : layout_.dim(0);
  if (std::ranges::any_of(order_, [n](int64_t from) { return from >= n; }) || is_stacked_) {
    fail(ErrorKind::bad_model, "the tensor of {} is {}, which does not divide into the heads of the config",
         name_, shape_text(layout_));
  }
  layout_.shape[is_of_columns ? layout_.n_dims - 1 : 0] = std::ssize(order_);
}

// Columns in their new order, block by block.
void HfTensor::write_columns(const Tensor& part, std::byte* out) const {
  const Format& format = format_of(part.dtype);
  const auto n_blocks = static_cast<size_t>(layout_.n_cols() / format.block_elems);
  if (layout_.n_cols() % format.block_elems != 0 || part.n_cols() % format.block_elems != 0)
    fail(ErrorKind::bad_model, "rows of {} end inside of a block of {}", name_, format.name);
  for (size_t j = 0; j < n_blocks; ++j) {
    const int64_t* from = order_.data() + static_cast<int64_t>(j) * format.block_elems;
    bool is_block = *from % format.block_elems == 0;
    for (int64_t i = 0; i < format.block_elems; ++i) is_block = is_block && from[i] == *from + i;
    if (!is_block)
      fail(ErrorKind::bad_model, "heads of {} begin inside of a block of {}", name_, format.name);
  }
  for (int64_t row = 0; row < part.n_rows(); ++row) {
    for (size_t j = 0; j < n_blocks; ++j, out += format.block_bytes) {
      const int64_t block = order_[j * static_cast<size_t>(format.block_elems)] / format.block_elems;
      std::memcpy(out, part.row(row) + block * format.block_bytes, static_cast<size_t>(format.block_bytes));
    }
  }
}

// Shape and format of the parts; integers of different formats meet in Q8_Z.
void HfTensor::settle_format() {
  layout_ = parts_[0].tensor;
  for (const HfPart& part : parts_) {
    const bool has_shape = part.tensor.n_dims == layout_.n_dims && part.tensor.shape == layout_.shape;
    const bool are_integers = is_of_integers(part) && is_of_integers(parts_[0]);
    if (!has_shape || (part.tensor.dtype != layout_.dtype && !are_integers)) {
      fail(ErrorKind::bad_model, "the parts of {} differ: {} and {}", name_, shape_text(parts_[0].tensor),
           shape_text(part.tensor));
    }
    if (part.tensor.dtype != parts_[0].tensor.dtype) layout_.dtype = Dtype::q8_z;
  }
  stored_ = layout_.dtype;
}

void HfTensor::write(std::byte* out) const {
  if (is_latent()) return write_latent(out);
  if (layout_.dtype == stored_) {
    write_rows(out);
  } else {
    Tensor stored = layout_;
    stored.dtype = stored_;
    std::vector<std::byte> rows(static_cast<size_t>(stored.n_bytes()));
    write_rows(rows.data());
    stored.data = rows.data();
    decode_rows(stored, reinterpret_cast<float*>(out));
  }
  if (change_ == HfChange::add_one) {
    for (int64_t i = 0; i < layout_.n_elems(); ++i) reinterpret_cast<float*>(out)[i] += 1.0f;
  }
  if (change_ == HfChange::negative_exp) {
    auto* elements = reinterpret_cast<float*>(out);
    std::transform(elements, elements + layout_.n_elems(), elements, [](float x) { return -std::exp(x); });
  }
}

// The elements in their new order, in the format that they are stored in.
void HfTensor::write_rows(std::byte* out) const {
  std::vector<std::byte> memory;
  Tensor part = parts_[0].tensor;
  part.dtype = stored_;
  if (changes_outputs(change_).is_any) return write_chosen_rows(out);
  if (n_paired_heads_ > 0 || !order_.empty())
    part.data = const_cast<std::byte*>(elements_of(parts_[0], stored_, memory));  // only read
  if (n_paired_heads_ > 0) {
    const int64_t row_bytes = part.n_bytes() / part.dim(0);  // of a bias: one element
    const int64_t n_pairs = part.dim(0) / n_paired_heads_ / 2;
    for (int64_t row = 0; row < part.dim(0); ++row) {
      const int64_t head = row / (2 * n_pairs), pair = row / 2 % n_pairs, side = row % 2;
      const int64_t from = head * 2 * n_pairs + side * n_pairs + pair;
      std::memcpy(out + row * row_bytes, part.data + from * row_bytes, static_cast<size_t>(row_bytes));
    }
  } else if (!order_.empty() && change_ == HfChange::columns) {
    write_columns(part, out);
  } else if (!order_.empty()) {
    const int64_t row_bytes = part.n_bytes() / part.dim(0);  // of a vector: one element
    for (const int64_t from : order_) {
      std::memcpy(out, part.data + from * row_bytes, static_cast<size_t>(row_bytes));
      out += row_bytes;
    }
  } else {
    for (const HfPart& each : parts_) {
      if (each.packed != nullptr) {
        each.packed->write(stored_, out);
      } else {
        std::memcpy(out, each.tensor.data, static_cast<size_t>(part.n_bytes()));
      }
      out += part.n_bytes();
    }
  }
}

std::vector<HfTensor> map_tensors(std::span<const HfPart> parts, const HfModelClass& model_class,
                                  const Metadata& metadata, const HfScope& scope) {
  std::vector<HfTensor> tensors;
  std::map<std::string, size_t, std::less<>> index;
  int64_t n_left_out = 0;
  for (const HfPart& part : parts) {
    const Pattern pattern = pattern_of(text_name(part.name, model_class.body));
    const int64_t layer = pattern.layer.empty() ? -1 : std::stoll(pattern.layer);
    const bool drafts = layer >= scope.n_layers && layer < scope.n_layers + scope.n_draft_layers;
    if (part.name.starts_with("mtp.") || drafts) {
      ++n_left_out;
      continue;
    }
    std::vector<const HfTensorRule*> rules = rules_for(pattern.text, model_class);
    // Of a body alone: nothing stands before its names.
    if (rules.empty()) rules = rules_for("model." + pattern.text, model_class);
    if (rules.empty()) {
      fail(ErrorKind::bad_model, "tensor {} is not one that a model of type {} has", printable(part.name),
           model_class.model_type);
    }
    for (const HfTensorRule* rule : rules) {
      const bool is_head = rule->gguf == "output.weight";
      if (rule->gguf.empty() || (scope.is_tied && is_head)) continue;
      std::string name = gguf_name(*rule, pattern);
      const auto [entry, is_new] = index.emplace(name, tensors.size());
      if (is_new) {
        tensors.emplace_back(std::move(name), rule->change,
                             rule->order == nullptr ? HfOrder() : rule->order(metadata));
      }
      tensors[entry->second].add_part(pattern.expert, part);
    }
  }
  if (n_left_out > 0)
    log_info("{} tensors of layers for multi-token prediction are left out: nothing drafts", n_left_out);
  for (HfTensor& tensor : tensors) tensor.finish(scope.heads);
  std::ranges::stable_sort(tensors, {}, [](const HfTensor& tensor) { return layer_of(tensor.name()); });
  return tensors;
}

}  // namespace millrace
