#include "model/hf/config.h"

#include <algorithm>

namespace millrace {
namespace {

// Of training, of storage, of other programs; and ids, which the tokenizer's files say too.
constexpr std::string_view kHarmless[] = {"_attn_implementation",
                                          "_attn_implementation_autoset",
                                          "_name_or_path",
                                          "architectures",
                                          "attention_dropout",
                                          "attention_probs_dropout_prob",
                                          "attn_implementation",
                                          "aux_loss_alpha",
                                          "auto_map",
                                          "bos_token_id",
                                          "cache_implementation",
                                          "classifier_dropout",
                                          "dtype",
                                          "embd_pdrop",
                                          "eos_token_id",
                                          "ep_size",
                                          "gradient_checkpointing",
                                          "hidden_dropout",
                                          "hidden_dropout_prob",
                                          "id2label",
                                          "initializer_range",
                                          "is_llama_config",
                                          "label2id",
                                          "model_type",
                                          "output_router_logits",
                                          "pad_token_id",
                                          "pretraining_tp",
                                          "problem_type",
                                          "resid_pdrop",
                                          "router_aux_loss_coef",
                                          "router_jitter_noise",
                                          "seq_aux",
                                          "tokenizer_class",
                                          "torch_dtype",
                                          "transformers.js_config",
                                          "transformers_version",
                                          "unsloth_fixed",
                                          "unsloth_version",
                                          "use_cache"};

bool is_off(const Json& value) {
  return value.is_null() || (value.is_bool() && !value.as_bool()) ||
         (value.is_array() && value.as_array().empty()) || (value.is_object() && value.as_object().empty());
}

}  // namespace

const Json* HfConfig::find(std::string_view key) {
  asked_.emplace(key);
  for (const Json* object : objects_) {
    if (const Json* value = object->find(key)) return value->is_null() ? nullptr : value;
  }
  return nullptr;
}

bool HfConfig::has(std::string_view key) const {
  for (const Json* object : objects_) {
    if (const Json* value = object->find(key)) return !value->is_null();
  }
  return false;
}

const Json& HfConfig::need(std::string_view key) {
  if (const Json* value = find(key)) return *value;
  fail(ErrorKind::bad_model, "{} has no {}", where_, printable(key));
}

int64_t HfConfig::count(std::string_view key, Range range) {
  const Json& value = need(key);
  if (!value.is_int()) refuse(key, fmt::format("expected an integer, found {}", value.type_name()));
  const auto number = static_cast<double>(value.as_int());
  if (number < range.min || number > range.max) {
    refuse(key, fmt::format("{} is not from {:g} to {:g}", value.as_int(), range.min, range.max));
  }
  return value.as_int();
}

int64_t HfConfig::count_or(std::string_view key, int64_t otherwise, Range range) {
  return find(key) != nullptr ? count(key, range) : otherwise;
}

double HfConfig::real(std::string_view key, Range range) {
  const Json& value = need(key);
  if (!value.is_number()) refuse(key, fmt::format("expected a number, found {}", value.type_name()));
  if (!(value.as_double() >= range.min && value.as_double() <= range.max)) {
    refuse(key, fmt::format("{} is not from {:g} to {:g}", value.as_double(), range.min, range.max));
  }
  return value.as_double();
}

double HfConfig::real_or(std::string_view key, double otherwise, Range range) {
  return find(key) != nullptr ? real(key, range) : otherwise;
}

bool HfConfig::flag_or(std::string_view key, bool otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_bool()) refuse(key, fmt::format("expected a boolean, found {}", value->type_name()));
  return value->as_bool();
}

std::string HfConfig::text_or(std::string_view key, std::string_view otherwise) {
  const Json* value = find(key);
  if (value == nullptr) return std::string(otherwise);
  if (!value->is_string()) refuse(key, fmt::format("expected a string, found {}", value->type_name()));
  return value->as_string();
}

std::vector<std::string> HfConfig::texts(std::string_view key) {
  const Json& value = need(key);
  std::vector<std::string> texts;
  if (!value.is_array()) refuse(key, fmt::format("expected an array, found {}", value.type_name()));
  for (const Json& element : value.as_array()) {
    if (!element.is_string()) refuse(key, fmt::format("expected strings, found {}", element.type_name()));
    texts.push_back(element.as_string());
  }
  return texts;
}

std::vector<double> HfConfig::reals(std::string_view key) {
  const Json& value = need(key);
  std::vector<double> reals;
  if (!value.is_array()) refuse(key, fmt::format("expected an array, found {}", value.type_name()));
  for (const Json& element : value.as_array()) {
    if (!element.is_number()) refuse(key, fmt::format("expected numbers, found {}", element.type_name()));
    reals.push_back(element.as_double());
  }
  return reals;
}

void HfConfig::expect(std::string_view key, std::string_view expected) {
  const std::string found = text_or(key, expected);
  if (found != expected)
    refuse(key, fmt::format("only {} is implemented, found {}", expected, printable(found)));
}

HfConfig HfConfig::within(const Json& object, std::string where) const {
  std::vector<const Json*> objects{&object};
  objects.insert(objects.end(), objects_.begin(), objects_.end());
  return HfConfig(std::move(where), std::move(objects));
}

void HfConfig::refuse_rest() const {
  if (!objects_[0]->is_object()) {
    fail(ErrorKind::bad_model, "{} should be an object, found {}", where_, objects_[0]->type_name());
  }
  for (const auto& [key, value] : objects_[0]->as_object()) {
    if (asked_.contains(key) || is_off(value) || std::ranges::find(kHarmless, key) != std::end(kHarmless))
      continue;
    refuse(key, "is not understood, and may change what the model computes");
  }
}

void HfConfig::refuse(std::string_view key, std::string_view why) const {
  fail(ErrorKind::bad_model, "{} in {}: {}", printable(key), where_, why);
}

}  // namespace millrace
