#include "model/hparams.h"

#include <algorithm>
#include <array>
#include <optional>

namespace millrace {
namespace {

// Keys that ask for nothing: whatever they hold, or while they hold the value that stands for "off".
struct Harmless {
  std::string_view key;
  std::array<double, 2> off{};
  bool is_always = false;
};
constexpr Harmless kHarmless[] = {
    {.key = "context_length", .is_always = true},
    {.key = "vocab_size", .is_always = true},  // the rows of token_embd.weight say it
    {.key = "tensor_data_layout", .is_always = true},
    {.key = "rope.dimension_sections",
     .is_always = true},                               // of time, height, width: one and the same in text
    {.key = "n_deepstack_layers", .is_always = true},  // of the embeddings of images
    {.key = "rope.scaling.finetuned", .is_always = true},
    {.key = "rope.scaling.original_context_length", .is_always = true},  // read where a scaling uses it
    {.key = "attention.causal", .off = {1, 1}},
    {.key = "attention.layer_norm_epsilon", .is_always = true},  // beside an RMSNorm's
    {.key = "attention.clamp_kqv"},
    {.key = "classifier.output_labels", .is_always = true},  // names of scores
    {.key = "attention.max_alibi_bias"},
    {.key = "attention.scale"},
    {.key = "attention.shared_kv_layers"},
    {.key = "attention.sliding_window"},
    {.key = "attention.temperature_scale"},
    {.key = "attn_logit_softcapping"},
    {.key = "dense_2_feat_in", .is_always = true},  // the tensors say it
    {.key = "dense_2_feat_out", .is_always = true},
    {.key = "dense_3_feat_in", .is_always = true},
    {.key = "dense_3_feat_out", .is_always = true},
    {.key = "embedding_scale", .off = {0, 1}},
    {.key = "expert_count"},
    {.key = "expert_group_count", .off = {0, 1}},
    {.key = "expert_group_used_count", .off = {0, 1}},
    {.key = "expert_shared_count"},
    {.key = "expert_shared_feed_forward_length"},
    {.key = "expert_used_count"},
    {.key = "expert_weights_scale", .off = {0, 1}},
    {.key = "final_logit_softcapping"},
    {.key = "interleave_moe_layer_step", .off = {0, 1}},
    {.key = "leading_dense_block_count"},
    {.key = "logit_scale", .off = {0, 1}},
    {.key = "nextn_predict_layers"},
    {.key = "pooling_type"},
    {.key = "residual_scale", .off = {0, 1}},
    {.key = "router_logit_softcapping"},
    {.key = "use_parallel_residual"},
};

// The value as a number, where it is one number.
std::optional<double> number_of(const MetaValue& value) {
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? 1.0 : 0.0;
  if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
  if (const auto* real = std::get_if<double>(&value)) return *real;
  return std::nullopt;
}

bool is_harmless(std::string_view key, const MetaValue& value) {
  const auto* found = std::ranges::find(kHarmless, key, &Harmless::key);
  if (found == std::end(kHarmless)) return false;
  const std::optional<double> number = number_of(value);
  return found->is_always || (number && (*number == found->off[0] || *number == found->off[1]));
}

template <class T>
T checked(std::string_view key, T value, Range range) {
  const auto real = static_cast<double>(value);
  if (!(real >= range.min && real <= range.max)) {
    fail(ErrorKind::bad_model, "{} is {}, expected a value from {:g} to {:g}", printable(key), value,
         range.min, range.max);
  }
  return value;
}

std::string architecture(const Metadata& metadata) {
  return std::string(metadata.need<std::string_view>("general.architecture"));
}

}  // namespace

std::vector<bool> periodic_pattern(int64_t n, int64_t period, Odd odd) {
  std::vector<bool> flags(static_cast<size_t>(n), true);
  const int64_t first = odd == Odd::first ? 0 : period - 1;
  for (int64_t i = first; period > 0 && i < n; i += period) flags[static_cast<size_t>(i)] = false;
  return flags;
}

Hparams::Hparams(const Metadata& metadata) : metadata_(metadata), arch_(architecture(metadata)) {}

bool Hparams::has(std::string_view key) const { return metadata_.find(full(key)) != nullptr; }

int64_t Hparams::count(std::string_view key, Range range) {
  const std::string name = asked(key);
  return checked(name, metadata_.need<int64_t>(name), range);
}

int64_t Hparams::count_or(std::string_view key, int64_t otherwise, Range range) {
  return has(key) ? count(key, range) : otherwise;
}

std::vector<int64_t> Hparams::counts(std::string_view key, Range range) {
  const std::string name = asked(key);
  const MetaValue* value = metadata_.find(name);
  if (value == nullptr || std::holds_alternative<int64_t>(*value)) return {count(key, range)};
  const auto counts = metadata_.need<std::vector<int64_t>>(name);
  for (const int64_t count : counts) checked(name, count, range);
  return counts;
}

double Hparams::real(std::string_view key, Range range) {
  const std::string name = asked(key);
  return checked(name, metadata_.need<double>(name), range);
}

double Hparams::real_or(std::string_view key, double otherwise, Range range) {
  return has(key) ? real(key, range) : otherwise;
}

bool Hparams::flag_or(std::string_view key, bool otherwise) {
  return metadata_.get_or<bool>(asked(key), otherwise);
}

std::string Hparams::text_or(std::string_view key, std::string_view otherwise) {
  return std::string(metadata_.get_or<std::string_view>(asked(key), otherwise));
}

std::vector<bool> Hparams::pattern_or(std::string_view key, int64_t n_layers, int64_t period, Odd odd) {
  const std::string name = asked(key);
  const MetaValue* value = metadata_.find(name);
  if (value != nullptr && std::holds_alternative<std::vector<bool>>(*value)) {
    auto flags = std::get<std::vector<bool>>(*value);
    if (std::ssize(flags) == n_layers) return flags;
    fail(ErrorKind::bad_model, "{} has {} entries for {} layers", printable(name), flags.size(), n_layers);
  }
  return periodic_pattern(n_layers, count_or(key, period), odd);
}

template <class T>
std::vector<T> Hparams::numbers(std::string_view key, int64_t n_layers, Range range) {
  const std::string name = asked(key);
  const MetaValue* value = metadata_.find(name);
  const auto n = static_cast<size_t>(n_layers);
  if (value != nullptr && (std::holds_alternative<T>(*value)))
    return std::vector<T>(n, checked(name, std::get<T>(*value), range));
  auto all = metadata_.need<std::vector<T>>(name);
  if (all.size() < n)
    fail(ErrorKind::bad_model, "{} has {} entries for {} layers", printable(name), all.size(), n_layers);
  all.resize(n);
  for (const T each : all) checked(name, each, range);
  return all;
}

std::vector<int64_t> Hparams::counts(std::string_view key, int64_t n_layers, Range range) {
  return numbers<int64_t>(key, n_layers, range);
}

std::vector<double> Hparams::reals(std::string_view key, int64_t n_layers, Range range) {
  return numbers<double>(key, n_layers, range);
}

void Hparams::refuse_rest() const {
  const std::string prefix = arch_ + ".";
  for (const auto& [key, value] : metadata_.entries()) {
    const bool is_of_arch = key.starts_with(prefix);
    if ((!is_of_arch && !key.starts_with("millrace.")) || asked_.contains(key)) continue;
    if (is_of_arch && is_harmless(std::string_view(key).substr(prefix.size()), value)) continue;
    fail(ErrorKind::bad_model, "{} asks for something that is not implemented for architecture {}",
         printable(key), printable(arch_));
  }
}

void Hparams::refuse(std::string_view key, std::string_view why) const {
  fail(ErrorKind::bad_model, "{}: {}", printable(full(key)), why);
}

std::string Hparams::asked(std::string_view key) { return *asked_.insert(full(key)).first; }

std::string Hparams::full(std::string_view key) const {
  return key.starts_with("millrace.") ? std::string(key) : arch_ + "." + std::string(key);
}

}  // namespace millrace
