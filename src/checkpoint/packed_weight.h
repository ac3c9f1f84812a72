// Weights that a checkpoint stores as codes beside scales: laid out anew in a format of ours, with the very
// same values.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"
#include "tensor/tensor.h"

namespace millrace {

class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  // Format and shape, without elements.
  virtual Tensor layout() const = 0;
  // Writes the elements in layout().dtype; a weight of integers also in Dtype::q8_z, which holds any of them.
  // Throws Error(bad_model) for a code or scale that is not a number.
  virtual void write(Dtype dtype, std::byte* out) const = 0;
  // The same weight with rows and columns exchanged, with the same values; nullptr where its scales do not
  // allow that.
  virtual std::unique_ptr<PackedWeight> transposed() const { return nullptr; }
};

// The tensors that make one weight: their names begin alike.
class PackedTensors {
 public:
  // `tensors` must outlive this, and every weight made of it.
  PackedTensors(const NamedList<SafetensorsTensor>& tensors, std::string stem)
      : tensors_(tensors), stem_(std::move(stem)) {}

  const std::string& stem() const { return stem_; }
  // The tensor of that ending, or nullptr.
  const SafetensorsTensor* find(std::string_view ending) const {
    return tensors_.find(stem_ + std::string(ending));
  }
  // Throws Error(bad_model) where there is none.
  const SafetensorsTensor& need(std::string_view ending) const;
  [[noreturn]] void refuse(std::string_view why) const;

 private:
  const NamedList<SafetensorsTensor>& tensors_;
  std::string stem_;
};

using PackedMaker = std::function<std::unique_ptr<PackedWeight>(const PackedTensors&)>;

// How one kind of weight is stored.
struct Packing {
  std::string_view codes;                // how the name of the tensor with the codes ends: ".qweight"
  std::string_view dtype;                // its type: "I32"
  std::string_view becomes;              // how the name of the weight ends: ".weight"
  std::vector<std::string_view> beside;  // endings of what belongs to it; the first one must be there
  PackedMaker make;
};

// fp8.cpp. Scales belong to blocks of that many rows and columns, to rows, or to the whole matrix; `scale` is
// the ending of their tensor.
struct ScaleBlock {
  int64_t n_rows = 128;
  int64_t n_cols = 128;
};
std::unique_ptr<PackedWeight> make_fp8(const PackedTensors& tensors, std::string_view codes,
                                       std::string_view scale, ScaleBlock block);

// fp4.cpp
std::unique_ptr<PackedWeight> make_mxfp4(const PackedTensors& tensors, std::string_view codes,
                                         std::string_view scale);
// The float32 scale of the whole matrix multiplies, or divides.
enum class GlobalScale { multiplies, divides };
struct Nvfp4Names {
  std::string_view codes, scale, global_scale;
  GlobalScale use;
};
std::unique_ptr<PackedWeight> make_nvfp4(const PackedTensors& tensors, const Nvfp4Names& names);

// integers.cpp
std::unique_ptr<PackedWeight> make_int8(const PackedTensors& tensors);
std::unique_ptr<PackedWeight> make_pack_quantized(const PackedTensors& tensors, int n_bits);
std::unique_ptr<PackedWeight> make_awq(const PackedTensors& tensors);
struct GptqOptions {
  int n_bits = 4;
  bool stores_zero_minus_one = true;  // the first version of the format
};
std::unique_ptr<PackedWeight> make_gptq(const PackedTensors& tensors, const GptqOptions& options);

// Element i of a tensor for which is_of_reals().
float real_at(const SafetensorsTensor& tensor, int64_t i);
bool is_of_reals(const SafetensorsTensor& tensor);
std::string shape_text(const SafetensorsTensor& tensor);

template <class T>
T number_at(const SafetensorsTensor& tensor, int64_t i) {
  T value;
  std::memcpy(&value, tensor.bytes.data() + i * static_cast<int64_t>(sizeof value), sizeof value);
  return value;
}

}  // namespace millrace
