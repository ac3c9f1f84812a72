// A model as it lies on disk: named tensors and metadata, whatever the container. Names and keys are GGUF's;
// a reader of another container presents its content under them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tensor/tensor.h"

namespace millrace {

// A metadata value. Strings and arrays of strings are views into memory that the checkpoint owns.
// Integers of any width are int64 (a u64 above INT64_MAX is refused when the file is read).
using MetaValue = std::variant<bool, int64_t, double, std::string_view, std::vector<bool>,
                               std::vector<int64_t>, std::vector<double>, std::vector<std::string_view>>;

class Metadata {
 public:
  // In the order of the file. Throws Error(bad_model) for a key that is there already.
  void add(std::string key, MetaValue value);
  const MetaValue* find(std::string_view key) const;
  std::span<const std::pair<std::string, MetaValue>> entries() const { return entries_; }

  // The value of `key` as T, one of: bool, int64_t, double (also of an integer), std::string_view,
  // std::vector<bool/int64_t/double/std::string_view> (an empty array fits every kind).
  // need: throws Error(bad_model) naming the key, what was expected and what was found.
  // get: nothing where the key is missing; throws where its type is another one.
  template <class T>
  T need(std::string_view key) const;
  template <class T>
  std::optional<T> get(std::string_view key) const;
  template <class T>
  T get_or(std::string_view key, T otherwise) const {
    return get<T>(key).value_or(std::move(otherwise));
  }

 private:
  std::vector<std::pair<std::string, MetaValue>> entries_;
  std::map<std::string, size_t, std::less<>> by_key_;  // index in entries_; a tree: no key can make it slow
};

struct NamedTensor {
  std::string name;  // "blk.0.attn_q.weight"
  Tensor tensor;     // read-only memory; shape outermost first: (n_out, n_in)
};

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  virtual const Metadata& metadata() const = 0;
  virtual std::span<const NamedTensor> tensors() const = 0;  // in the order of the file; names are unique
  // The tensor of that name, or nullptr.
  virtual const Tensor* find(std::string_view name) const = 0;
  // The files that tensors lie in as they are, mapped.
  virtual std::vector<std::span<const std::byte>> mapped_files() const { return {}; }
  // Bytes of all tensors.
  int64_t n_bytes() const {
    int64_t sum = 0;
    for (const NamedTensor& named : tensors()) sum += named.tensor.n_bytes();
    return sum;
  }
};

}  // namespace millrace
