// Integers under a scale for each output and group of inputs: y = scale * (code - zero). AWQ, GPTQ and
// compressed-tensors pack codes and zeros in different directions; the values become Q4_0 or Q8_0 where there
// is no zero point, Q4_Z or Q8_Z otherwise.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "checkpoint/packed_weight.h"
#include "quant/half.h"
#include "quant/legacy/layout.h"
#include "quant/zero_point/layout.h"

namespace millrace {
namespace {

constexpr int kElems = 32;  // inputs of a block
constexpr int kStrip = 16;  // outputs unpacked together: a cache line of the codes that lie by outputs
constexpr int kAwqOrder[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // the nibble of each output of eight

using Strip = uint8_t[kStrip][kElems];  // codes from 0 to 2^bits - 1

// Code `index` of a stream of codes of n_bits, lowest bits first; word(k) gives its 32-bit words.
template <class Word>
int code_in(const Word& word, int64_t index, int n_bits) {
  const int64_t bit = index * n_bits;
  const auto at = static_cast<int>(bit % 32);
  uint64_t window = word(bit / 32);
  if (at + n_bits > 32) window |= static_cast<uint64_t>(word(bit / 32 + 1)) << 32;
  return static_cast<int>(window >> at & ((1u << n_bits) - 1));
}

// 32 codes in as many words as a code has bits.
inline void unpack_words(const uint32_t* words, int n_bits, uint8_t* codes) {
#pragma GCC unroll 32
  for (int i = 0; i < kElems; ++i) {
    codes[i] = static_cast<uint8_t>(code_in([words](int64_t k) { return words[k]; }, i, n_bits));
  }
}

// The usual numbers of bits as constants: shifts and words are known then.
void unpack_block(const uint32_t* words, int n_bits, uint8_t* codes) {
  if (n_bits == 4) return unpack_words(words, 4, codes);
  if (n_bits == 8) return unpack_words(words, 8, codes);
  unpack_words(words, n_bits, codes);
}

class IntegerWeight : public PackedWeight {
 public:
  Tensor layout() const override { return Tensor(nullptr, dtype_, {n_out_, n_in_}); }

  void write(Dtype dtype, std::byte* out) const override {
    check(dtype == dtype_ || (dtype == Dtype::q8_z && dtype_ != Dtype::f16),
          "a format that holds the values");
    const int64_t row_bytes = n_bytes_of(dtype, n_in_), block_bytes = n_bytes_of(dtype, kElems);
    Strip strip;
    for (int64_t first = 0; first < n_out_; first += kStrip) {
      const auto n = static_cast<int>(std::min<int64_t>(kStrip, n_out_ - first));
      for (int64_t block = 0; block < n_in_ / kElems; ++block) {
        unpack(block, first, n, strip);
        for (int o = 0; o < n; ++o)
          write_block(dtype, {first + o, block}, strip[o],
                      out + (first + o) * row_bytes + block * block_bytes);
      }
    }
  }

 protected:
  explicit IntegerWeight(const PackedTensors& tensors) : tensors_(tensors) {}

  // Codes of `n` outputs from `first` on, for 32 inputs.
  virtual void unpack(int64_t block, int64_t first, int n, Strip& strip) const = 0;
  virtual float scale(int64_t output, int64_t group) const = 0;
  virtual int zero(int64_t output, int64_t group) const = 0;

  // To be called by the constructor when codes, scales and zeros can be read.
  void settle(int64_t n_out, int64_t n_in, int n_bits, int64_t n_groups, const SafetensorsTensor* groups) {
    n_out_ = n_out;
    n_in_ = n_in;
    n_bits_ = n_bits;
    n_groups_ = n_groups;
    if (n_in_ < kElems || n_in_ % kElems != 0) refuse("{} inputs, expected a multiple of 32", n_in_);
    if (n_groups_ < 1 || n_in_ % n_groups_ != 0) refuse("{} groups of {} inputs", n_groups_, n_in_);
    read_groups(groups);
    settle_format();
  }

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    tensors_.refuse(fmt::format(format, std::forward<Args>(args)...));
  }

  void expect(const SafetensorsTensor& tensor, std::string_view dtype, std::vector<int64_t> shape) const {
    if (tensor.dtype == dtype && tensor.shape == shape) return;
    refuse("expected ({}) {}, found {}", fmt::join(shape, ", "), dtype, shape_text(tensor));
  }
  void expect_reals(const SafetensorsTensor& tensor, std::vector<int64_t> shape) const {
    if (!is_of_reals(tensor)) refuse("scales of the type {}", tensor.dtype);
    expect(tensor, tensor.dtype, std::move(shape));
  }

  PackedTensors tensors_;

 private:
  struct Place {
    int64_t output, block;
  };

  // `groups` names the group of each input, or is nullptr where groups are runs of equal length.
  void read_groups(const SafetensorsTensor* groups) {
    group_of_.resize(static_cast<size_t>(n_in_));
    for (int64_t i = 0; i < n_in_; ++i) {
      const int64_t group = groups == nullptr ? i / (n_in_ / n_groups_) : number_at<int32_t>(*groups, i);
      if (group < 0 || group >= n_groups_) refuse("input {} belongs to group {} of {}", i, group, n_groups_);
      group_of_[static_cast<size_t>(i)] = static_cast<int32_t>(group);
      are_runs_ &= group == group_of_[static_cast<size_t>(i / kElems * kElems)];
    }
  }

  void settle_format() {
    bool has_zeros = false, are_f16 = true;
    for (int64_t o = 0; o < n_out_; ++o) {
      for (int64_t g = 0; g < n_groups_; ++g) {
        const float s = scale(o, g);
        if (!std::isfinite(s)) refuse("the scale of output {} is not a number", o);
        has_zeros |= zero(o, g) != 1 << (n_bits_ - 1);
        are_f16 &= float_of_f16(f16_of_float(s)) == s;
      }
    }
    const bool is_small = n_bits_ <= 4;
    if (!are_runs_) {
      dtype_ = Dtype::f16;  // as the packages of these formats compute: no format has a scale for each input
    } else if (!are_f16 || (has_zeros && !is_small)) {
      dtype_ = Dtype::q8_z;
    } else if (has_zeros) {
      dtype_ = Dtype::q4_z;
    } else {
      dtype_ = is_small ? Dtype::q4_0 : Dtype::q8_0;
    }
  }

  void write_block(Dtype dtype, Place at, const uint8_t* codes, std::byte* out) const {
    if (dtype == Dtype::f16) return write_halves(at, codes, reinterpret_cast<uint16_t*>(out));
    const int64_t group = group_of_[static_cast<size_t>(at.block * kElems)];
    const float s = scale(at.output, group);
    const int z = zero(at.output, group);
    const uint16_t half = f16_of_float(s);
    if (dtype == Dtype::q4_0) {
      auto* block = reinterpret_cast<BlockQ4_0*>(out);
      block->d = half;
      write_nibbles(codes, 8 - z, block->qs);
    } else if (dtype == Dtype::q4_z) {
      auto* block = reinterpret_cast<BlockQ4Z*>(out);
      put_number(half, block->d);
      block->z = static_cast<uint8_t>(z);
      write_nibbles(codes, 0, block->qs);
    } else if (dtype == Dtype::q8_0) {
      auto* block = reinterpret_cast<BlockQ8_0*>(out);
      block->d = half;
      for (int i = 0; i < kElems; ++i) block->qs[i] = static_cast<int8_t>(codes[i] - z);
    } else {
      auto* block = reinterpret_cast<BlockQ8Z*>(out);
      put_number(s, block->d);
      put_number(static_cast<int16_t>(z - 128), block->z);
      for (int i = 0; i < kElems; ++i) block->qs[i] = static_cast<int8_t>(codes[i] - 128);
    }
  }

  static void write_nibbles(const uint8_t* codes, int add, uint8_t* out) {
    for (int i = 0; i < 16; ++i) out[i] = static_cast<uint8_t>((codes[i] + add) | (codes[i + 16] + add) << 4);
  }

  void write_halves(Place at, const uint8_t* codes, uint16_t* out) const {
    for (int i = 0; i < kElems; ++i) {
      const int64_t group = group_of_[static_cast<size_t>(at.block * kElems + i)];
      out[i] = f16_of_float(scale(at.output, group) * static_cast<float>(codes[i] - zero(at.output, group)));
      if ((out[i] & 0x7c00) == 0x7c00) refuse("row {} holds a number that float16 cannot hold", at.output);
    }
  }

  int64_t n_out_ = 0, n_in_ = 0, n_groups_ = 0;
  int n_bits_ = 4;
  std::vector<int32_t> group_of_;  // (n_in)
  bool are_runs_ = true;           // the inputs of a block have one group
  Dtype dtype_ = Dtype::q8_z;
};

// qweight (in, out / 8), qzeros (groups, out / 8), scales (groups, out).
class AwqWeight final : public IntegerWeight {
 public:
  explicit AwqWeight(const PackedTensors& tensors)
      : IntegerWeight(tensors),
        codes_(tensors.need(".qweight")),
        zeros_(tensors.need(".qzeros")),
        scales_(tensors.need(".scales")) {
    if (codes_.shape.size() != 2 || scales_.shape.size() != 2) refuse("expected matrices");
    n_words_ = codes_.shape[1];
    expect(zeros_, "I32", {scales_.shape[0], n_words_});
    expect_reals(scales_, {scales_.shape[0], 8 * n_words_});
    settle(8 * n_words_, codes_.shape[0], 4, scales_.shape[0], nullptr);
  }

 private:
  static int nibble(uint32_t word, int64_t output) {
    return static_cast<int>(word >> 4 * kAwqOrder[output % 8] & 15);
  }

  void unpack(int64_t block, int64_t first, int n, Strip& strip) const override {
    for (int i = 0; i < kElems; ++i) {
      for (int o = 0; o < n; o += 8) {
        const auto word = number_at<uint32_t>(codes_, (block * kElems + i) * n_words_ + (first + o) / 8);
        for (int k = 0; k < 8; ++k) strip[o + k][i] = static_cast<uint8_t>(nibble(word, k));
      }
    }
  }
  float scale(int64_t output, int64_t group) const override {
    return real_at(scales_, group * 8 * n_words_ + output);
  }
  int zero(int64_t output, int64_t group) const override {
    return nibble(number_at<uint32_t>(zeros_, group * n_words_ + output / 8), output);
  }

  const SafetensorsTensor &codes_, &zeros_, &scales_;
  int64_t n_words_ = 0;
};

// qweight (in * bits / 32, out), qzeros (groups, out * bits / 32), scales (groups, out), g_idx (in).
class GptqWeight final : public IntegerWeight {
 public:
  GptqWeight(const PackedTensors& tensors, const GptqOptions& options)
      : IntegerWeight(tensors),
        options_(options),
        codes_(tensors.need(".qweight")),
        zeros_(tensors.need(".qzeros")),
        scales_(tensors.need(".scales")) {
    if (codes_.shape.size() != 2 || scales_.shape.size() != 2) refuse("expected matrices");
    n_out_ = codes_.shape[1];
    const int64_t n_bits = options.n_bits;
    if (codes_.shape[0] % n_bits != 0) refuse("{} rows of codes of {} bits", codes_.shape[0], n_bits);
    const int64_t n_in = codes_.shape[0] / n_bits * 32;
    n_zero_words_ = (n_out_ * n_bits + 31) / 32;
    expect(zeros_, "I32", {scales_.shape[0], n_zero_words_});
    expect_reals(scales_, {scales_.shape[0], n_out_});
    const SafetensorsTensor* groups = tensors.find(".g_idx");
    if (groups != nullptr) expect(*groups, "I32", {n_in});
    settle(n_out_, n_in, options.n_bits, scales_.shape[0], groups);
  }

 private:
  void unpack(int64_t block, int64_t first, int n, Strip& strip) const override {
    for (int o = 0; o < n; ++o) {
      uint32_t words[8];
      for (int k = 0; k < options_.n_bits; ++k)
        words[k] = number_at<uint32_t>(codes_, (block * options_.n_bits + k) * n_out_ + first + o);
      unpack_block(words, options_.n_bits, strip[o]);
    }
  }
  float scale(int64_t output, int64_t group) const override {
    return real_at(scales_, group * n_out_ + output);
  }
  int zero(int64_t output, int64_t group) const override {
    const int stored =
        code_in([&](int64_t k) { return number_at<uint32_t>(zeros_, group * n_zero_words_ + k); }, output,
                options_.n_bits);
    return options_.stores_zero_minus_one ? (stored + 1) & ((1 << options_.n_bits) - 1) : stored;
  }

  GptqOptions options_;
  const SafetensorsTensor &codes_, &zeros_, &scales_;
  int64_t n_out_ = 0, n_zero_words_ = 0;
};

// weight_packed (out, in * bits / 32), weight_scale (out, groups), weight_zero_point (out * bits / 32,
// groups).
class PackQuantizedWeight final : public IntegerWeight {
 public:
  PackQuantizedWeight(const PackedTensors& tensors, int n_bits)
      : IntegerWeight(tensors),
        n_bits_(n_bits),
        codes_(tensors.need(".weight_packed")),
        scales_(tensors.need(".weight_scale")),
        zeros_(tensors.find(".weight_zero_point")) {
    if (codes_.shape.size() != 2 || scales_.shape.size() != 2) refuse("expected matrices");
    n_words_ = codes_.shape[1];
    const int64_t n_out = codes_.shape[0];
    const int64_t n_in = read_n_in(tensors.need(".weight_shape"));
    n_groups_ = scales_.shape[1];
    expect_reals(scales_, {n_out, n_groups_});
    if (zeros_ != nullptr) expect(*zeros_, "I32", {(n_out * n_bits + 31) / 32, n_groups_});
    const SafetensorsTensor* groups = tensors.find(".weight_g_idx");
    if (groups != nullptr) expect(*groups, "I32", {n_in});
    settle(n_out, n_in, n_bits, n_groups_, groups);
  }

 private:
  int64_t read_n_in(const SafetensorsTensor& shape) const {
    const bool is_wide = shape.dtype == "I64";
    if (!is_wide && shape.dtype != "I32") refuse("a shape of the type {}", shape.dtype);
    expect(shape, shape.dtype, {2});
    const auto dim = [&](int64_t i) {
      return is_wide ? number_at<int64_t>(shape, i) : int64_t{number_at<int32_t>(shape, i)};
    };
    const int64_t n_in = dim(1);
    if (dim(0) != codes_.shape[0] || n_in < 1 || n_in > n_words_ * 32 ||
        (n_in * n_bits_ + 31) / 32 != n_words_)
      refuse("a shape of ({}, {}) for codes {}", dim(0), n_in, shape_text(codes_));
    return n_in;
  }

  void unpack(int64_t block, int64_t first, int n, Strip& strip) const override {
    for (int o = 0; o < n; ++o) {
      uint32_t words[8];
      for (int k = 0; k < n_bits_; ++k)
        words[k] = number_at<uint32_t>(codes_, (first + o) * n_words_ + block * n_bits_ + k);
      unpack_block(words, n_bits_, strip[o]);
    }
  }
  float scale(int64_t output, int64_t group) const override {
    return real_at(scales_, output * n_groups_ + group);
  }
  int zero(int64_t output, int64_t group) const override {
    if (zeros_ == nullptr) return 1 << (n_bits_ - 1);
    return code_in([&](int64_t k) { return number_at<uint32_t>(*zeros_, k * n_groups_ + group); }, output,
                   n_bits_);
  }

  int n_bits_;
  const SafetensorsTensor &codes_, &scales_;
  const SafetensorsTensor* zeros_;
  int64_t n_words_ = 0, n_groups_ = 0;
};

// weight (out, in) I8, weight_scale and weight_zero_point (out, groups) or of the whole matrix.
class Int8Weight final : public IntegerWeight {
 public:
  explicit Int8Weight(const PackedTensors& tensors)
      : IntegerWeight(tensors),
        codes_(tensors.need(".weight")),
        scales_(tensors.need(".weight_scale")),
        zeros_(tensors.find(".weight_zero_point")) {
    if (codes_.shape.size() != 2) refuse("codes of the shape {}, expected a matrix", shape_text(codes_));
    n_in_ = codes_.shape[1];
    const bool is_of_matrix = scales_.shape.empty() || scales_.shape == std::vector<int64_t>{1};
    n_groups_ = scales_.shape.size() == 2 ? scales_.shape[1] : 1;
    output_stride_ = is_of_matrix ? 0 : n_groups_;
    const auto shape = scales_.shape.size() == 2 ? std::vector{codes_.shape[0], n_groups_}
                       : is_of_matrix            ? scales_.shape
                                                 : std::vector{codes_.shape[0]};
    expect_reals(scales_, shape);
    if (zeros_ != nullptr) expect(*zeros_, "I8", shape);
    settle(codes_.shape[0], n_in_, 8, n_groups_, nullptr);
  }

 private:
  void unpack(int64_t block, int64_t first, int n, Strip& strip) const override {
    for (int o = 0; o < n; ++o) {
      const auto* codes =
          reinterpret_cast<const uint8_t*>(codes_.bytes.data()) + (first + o) * n_in_ + block * kElems;
      for (int i = 0; i < kElems; ++i) strip[o][i] = codes[i] ^ 0x80;  // + 128
    }
  }
  float scale(int64_t output, int64_t group) const override {
    return real_at(scales_, output * output_stride_ + group);
  }
  int zero(int64_t output, int64_t group) const override {
    return zeros_ == nullptr ? 128 : 128 + number_at<int8_t>(*zeros_, output * output_stride_ + group);
  }

  const SafetensorsTensor &codes_, &scales_;
  const SafetensorsTensor* zeros_;
  int64_t n_in_ = 0, n_groups_ = 0, output_stride_ = 0;
};

}  // namespace

std::unique_ptr<PackedWeight> make_awq(const PackedTensors& tensors) {
  return std::make_unique<AwqWeight>(tensors);
}
std::unique_ptr<PackedWeight> make_gptq(const PackedTensors& tensors, const GptqOptions& options) {
  return std::make_unique<GptqWeight>(tensors, options);
}
std::unique_ptr<PackedWeight> make_pack_quantized(const PackedTensors& tensors, int n_bits) {
  return std::make_unique<PackQuantizedWeight>(tensors, n_bits);
}
std::unique_ptr<PackedWeight> make_int8(const PackedTensors& tensors) {
  return std::make_unique<Int8Weight>(tensors);
}

}  // namespace millrace
