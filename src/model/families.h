// The table of families: which architectures are known, and who loads and imports each.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <string_view>

#include "checkpoint/mixture.h"  // WeightRule
#include "model/hf/model_class.h"
#include "model/model.h"

namespace millrace {

// A body of computation with its variants. Its file is families/NAME.cpp.
struct Family {
  std::span<const std::string_view> architectures;  // values of general.architecture
  std::unique_ptr<Model> (*load)(const Checkpoint& checkpoint);
  std::span<const HfModelClass> hf_classes;  // what Hugging Face calls its variants
  bool has_latents = false;                  // latent attention, whose form can be chosen
  // What mixtures of quantised formats take notice of (checkpoint/mixture.h).
  std::span<const WeightRule> weight_rules = {};
  std::span<const std::string_view> shared_values_at_80_layers = {};  // which of the architectures
};

// What a table of variants, each with its `architecture`, gives for Family::architectures.
template <class Variant, size_t kN>
constexpr std::array<std::string_view, kN> architectures_of(const Variant (&variants)[kN]) {
  std::array<std::string_view, kN> names;
  std::ranges::transform(variants, names.begin(), &Variant::architecture);
  return names;
}

std::span<const Family> all_families();
// The family of a general.architecture, or nullptr.
const Family* find_family(std::string_view architecture);
// Throws Error(bad_model) for an architecture that is not known, naming the nearest.
const Family& family_of(const Metadata& metadata);

}  // namespace millrace
