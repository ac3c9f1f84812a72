#include "checkpoint/quantize.h"

#include "checkpoint/gguf.h"

namespace millrace {
namespace {

bool is_table(std::string_view name) { return name == "token_embd.weight" || name == "output.weight"; }

// E4M3 does not count: models are published in it, and eight bits leave room for another rounding.
bool is_quantised_already(Dtype dtype) { return format_of(dtype).block_elems > 1 && dtype != Dtype::f8_e4m3; }

int64_t n_matrices(const Tensor& tensor) { return tensor.n_dims == 3 ? tensor.dim(0) : 1; }

void check_importance(const QuantizePlan& plan, size_t i) {
  const auto& [name, tensor] = plan.source.tensors()[i];
  const int64_t n_found = std::ssize(plan.importance->find(name));
  const int64_t n_expected = n_matrices(tensor) * tensor.n_cols();
  if (n_found == 0 || n_found == n_expected) return;
  fail(ErrorKind::usage, "the importance matrix has {} values for {}, expected {}: it is of another model",
       n_found, printable(name), n_expected);
}

}  // namespace

std::vector<NamedTensor> QuantizePlan::tensors() const {
  std::vector<NamedTensor> tensors(source.tensors().begin(), source.tensors().end());
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!is_recoded(i)) continue;
    tensors[i].tensor.dtype = choices[i].dtype;
    tensors[i].tensor.data = nullptr;
  }
  return tensors;
}

std::span<const float> QuantizePlan::importance_of(size_t i) const {
  return importance == nullptr ? std::span<const float>() : importance->find(source.tensors()[i].name);
}

void check_plan(const QuantizePlan& plan, const Mixture& mixture, Requantize may_requantize) {
  for (size_t i = 0; i < plan.choices.size(); ++i) {
    if (!plan.is_recoded(i)) continue;
    const auto& [name, tensor] = plan.source.tensors()[i];
    if (is_quantised_already(tensor.dtype) && may_requantize == Requantize::no) {
      fail(ErrorKind::usage,
           "{} is {} already, and would lose twice: start from the original, or say --allow-requantize",
           printable(name), format_of(tensor.dtype).name);
    }
    if (plan.importance != nullptr) check_importance(plan, i);
    const bool needs_importance =
        mixture.recipe == Recipe::q2_k_s && plan.choices[i].dtype == Dtype::q2_k && !is_table(name);
    if (needs_importance && plan.importance_of(i).empty()) {
      fail(ErrorKind::usage, "{} needs --imatrix, with values for {}: without one the result is useless",
           mixture.name, printable(name));
    }
  }
}

std::vector<RecodeError> write_quantized(const std::filesystem::path& path, const QuantizePlan& plan,
                                         const QuantizeOutput& output, const Progress& progress) {
  const std::vector<NamedTensor> tensors = plan.tensors();
  std::vector<RecodeError> errors(tensors.size());
  Recoder recoder(output.n_threads);
  std::vector<std::byte> recoded;
  const auto bytes_of = [&](size_t i) -> std::span<const std::byte> {
    const Tensor stored = output.read(i);
    if (!plan.is_recoded(i)) return {stored.data, static_cast<size_t>(stored.n_bytes())};
    Tensor to = tensors[i].tensor;
    recoded.resize(static_cast<size_t>(to.n_bytes()));
    to.data = recoded.data();
    errors[i] = recoder.recode(tensors[i].name, stored, to, plan.importance_of(i));
    return recoded;
  };
  write_gguf(path, {.metadata = output.metadata, .tensors = tensors, .bytes_of = bytes_of}, progress);
  return errors;
}

}  // namespace millrace
