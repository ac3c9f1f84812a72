// A checkpoint written as a GGUF file in other formats, one tensor at a time, with what each loses.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/importance.h"
#include "checkpoint/mixture.h"
#include "checkpoint/progress.h"
#include "checkpoint/recoder.h"

namespace millrace {

struct QuantizePlan {
  const Checkpoint& source;
  std::vector<FormatChoice> choices;  // for each tensor of `source`
  const Importance* importance = nullptr;

  bool is_recoded(size_t i) const { return choices[i].dtype != source.tensors()[i].tensor.dtype; }
  // The tensors as they will be written; of those that are recoded, without elements.
  std::vector<NamedTensor> tensors() const;
  // (n_matrices, n_cols), or empty: what the importance matrix says of tensor i.
  std::span<const float> importance_of(size_t i) const;
};

// Throws Error(usage) where the plan would lose more than its maker may think: tensors that are quantised
// already (unless `may_requantize`), an importance matrix of another model, a mixture that needs one.
enum class Requantize { yes, no };
void check_plan(const QuantizePlan& plan, const Mixture& mixture, Requantize may_requantize);

struct QuantizeOutput {
  const Metadata& metadata;
  std::function<Tensor(size_t)> read;  // tensor i of the source with its elements, valid until the next call
  int n_threads = 1;
};

// Writes the file, atomically; returns what each tensor lost. Holds one tensor of each kind at a time.
std::vector<RecodeError> write_quantized(const std::filesystem::path& path, const QuantizePlan& plan,
                                         const QuantizeOutput& output, const Progress& progress);

}  // namespace millrace
