// Which format each tensor of a quantised GGUF file gets. The mixtures are those that the ecosystem calls by
// these names (Q4_K_M gives some tensors more bits), chosen as llama.cpp's quantize tool chooses, so that a
// file is what its name says.
#pragma once

#include <optional>
#include <regex>
#include <span>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace millrace {

enum class Recipe { one_format, q2_k, q2_k_s, q3_k_m, q3_k_l, q4_k_s, q4_k_m, q5_k_m, iq4, mxfp4_moe };

struct Mixture {
  std::string_view name;
  Recipe recipe;
  Dtype base;         // of what no rule names
  int64_t file_type;  // general.file_type
};

// Upper or lower case; Q3_K, Q4_K and Q5_K stand for their _M. nullptr where there is none of that name.
const Mixture* find_mixture(std::string_view name);
std::span<const Mixture> all_mixtures();

// What an architecture asks for the weights whose names contain `part`: this format in any mixture that
// quantises, or none but their own.
struct WeightRule {
  std::string_view part;
  std::optional<Dtype> dtype;  // nothing: as the file has them, whatever else is asked
};

struct MixtureOptions {
  const Mixture* mixture = nullptr;
  std::optional<Dtype> output, token_embedding;       // instead of what the mixture says
  std::vector<std::pair<std::regex, Dtype>> by_name;  // the first that matches a name decides
  bool is_pure = false;                               // the base format for every matrix
  bool has_importance = false;
  std::span<const WeightRule> weight_rules;  // of the architecture
  // Whether models of the architecture with 80 layers share values among 8 heads: these are small beside the
  // other tensors, and get more bits.
  bool shares_values_at_80_layers = false;
};

struct FormatChoice {
  Dtype dtype;
  std::optional<Dtype> wanted;  // where the rows are no whole blocks of it, so that `dtype` replaces it
};

// For each tensor, in their order. Vectors, norms, routers and other small tensors that decide much keep the
// format they have, where GGUF files can hold it. Throws Error(bad_model) where the metadata does not say
// what the rules ask.
std::vector<FormatChoice> choose_formats(const Checkpoint& checkpoint, const MixtureOptions& options);

}  // namespace millrace
