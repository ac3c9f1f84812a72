// For tests: a checkpoint in memory, filled with small random weights or by hand.
#pragma once

#include <cmath>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace millrace::testing {

class MemoryCheckpoint final : public Checkpoint {
 public:
  const Metadata& metadata() const override { return metadata_; }
  std::span<const NamedTensor> tensors() const override { return tensors_; }
  const Tensor* find(std::string_view name) const override {
    for (const NamedTensor& named : tensors_) {
      if (named.name == name) return &named.tensor;
    }
    return nullptr;
  }

  // Also where the key has a value already.
  void set(std::string_view key, MetaValue value) {
    Metadata changed;
    for (const auto& [known, old] : metadata_.entries()) {
      if (known != key) changed.add(known, old);
    }
    changed.add(std::string(key), std::move(value));
    metadata_ = std::move(changed);
  }
  void set_text(std::string_view key, std::string_view text) {
    set(key, std::string_view(texts_.emplace_back(text)));
  }

  // float32 elements, normal with the deviation 1 / sqrt(n_cols); vectors lie around `mean`.
  void add_random(std::string name, std::vector<int64_t> shape, float mean = 1.0f) {
    int64_t n = 1;
    for (const int64_t dim : shape) n *= dim;
    std::vector<float>& values = values_.emplace_back(static_cast<size_t>(n));
    const bool is_vector = shape.size() == 1;
    std::normal_distribution<float> normal(
        is_vector ? mean : 0.0f, is_vector ? 0.2f : 1.0f / std::sqrt(static_cast<float>(shape.back())));
    for (float& value : values) value = normal(random_);
    add(std::move(name), std::move(shape), values.data());
  }
  // int32 elements in [0, n_values).
  void add_integers(std::string name, std::vector<int64_t> shape, int32_t n_values) {
    std::vector<int32_t>& values = integers_.emplace_back(static_cast<size_t>(shape[0] * shape[1]));
    for (int32_t& value : values) value = static_cast<int32_t>(random_() % static_cast<uint32_t>(n_values));
    tensors_.push_back({std::move(name), Tensor(values.data(), Dtype::i32, {shape[0], shape[1]})});
  }
  void remove(std::string_view name) {
    std::erase_if(tensors_, [&](const NamedTensor& named) { return named.name == name; });
  }

 private:
  void add(std::string name, const std::vector<int64_t>& shape, float* data) {
    Tensor tensor(data, Dtype::f32, {shape[0]});
    tensor.n_dims = static_cast<int>(shape.size());
    for (size_t i = 0; i < shape.size(); ++i) tensor.shape[i] = shape[i];
    tensors_.push_back({std::move(name), tensor});
  }

  Metadata metadata_;
  std::vector<NamedTensor> tensors_;
  std::deque<std::vector<float>> values_;
  std::deque<std::vector<int32_t>> integers_;
  std::deque<std::string> texts_;
  std::mt19937 random_{1};
};

}  // namespace millrace::testing
