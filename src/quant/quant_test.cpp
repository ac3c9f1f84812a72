// Every format against ggml's own blocks (by hash), its error, and hostile values; halves exhaustively.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "quant/format.h"
#include "quant/fp8/layout.h"
#include "quant/half.h"

namespace millrace {
namespace {

constexpr int64_t kRows = 16, kCols = 1024;

class Numbers {
 public:
  explicit Numbers(uint64_t seed) : state_(seed) {}
  int64_t next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int64_t>(state_ >> 48);
  }

 private:
  uint64_t state_;
};

// The input of quant_vectors.py: near a normal distribution, rows of different size, some odd groups.
std::vector<float> input() {
  Numbers numbers(1);
  std::vector<float> x(kRows * kCols);
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    int64_t sum = 0;
    for (int k = 0; k < 4; ++k) sum += numbers.next();
    x[i] = static_cast<float>(sum - 131070) * 0x1p-15f * std::exp2(static_cast<float>(i / kCols % 7 - 3));
  }
  std::fill_n(x.begin() + kCols, 256, 0.0f);
  std::fill_n(x.begin() + 2 * kCols, 256, 0.75f);
  x[3 * kCols + 17] = 100.0f;
  for (int64_t i = 3 * kCols + 256; i < 3 * kCols + 512; ++i) x[i] *= 0x1p-40f;  // scales below float16
  for (int64_t i = 4 * kCols; i < 5 * kCols; ++i) x[i] = std::fabs(x[i]);
  return x;
}

std::vector<float> importance() {
  Numbers numbers(2);
  std::vector<float> weights(kCols);
  for (float& w : weights) w = static_cast<float>(numbers.next() + 1) * 0x1p-12f;
  std::fill_n(weights.begin() + 640, 64, 0.0f);  // channels that no calibration text reached
  return weights;
}

uint64_t fnv1a(const void* data, size_t n_bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t i = 0; i < n_bytes; ++i) hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3;
  return hash;
}

std::vector<std::byte> encoded(const Format& format, const std::vector<float>& x,
                               std::span<const float> weights) {
  std::vector<std::byte> blocks(static_cast<size_t>(n_bytes_of(format.dtype, kRows * kCols)));
  const auto row_bytes = static_cast<size_t>(n_bytes_of(format.dtype, kCols));
  for (int64_t row = 0; row < kRows; ++row) {
    format.encode(x.data() + row * kCols, blocks.data() + static_cast<size_t>(row) * row_bytes, kCols,
                  weights);
  }
  return blocks;
}

std::vector<float> decoded(const Format& format, const std::vector<std::byte>& blocks) {
  std::vector<float> y(kRows * kCols);
  format.decode(blocks.data(), y.data(), kRows * kCols);
  return y;
}

struct Vector {
  Dtype dtype;
  uint64_t blocks, weighted_blocks, decoded;
};
constexpr Vector kVectors[] = {
#include "quant/quant_vectors.inl"
};

TEST(Quant, BlocksAreThoseOfGgml) {
  const std::vector<float> x = input(), weights = importance();
  for (const Vector& expected : kVectors) {
    const Format& format = format_of(expected.dtype);
    const std::vector<std::byte> blocks = encoded(format, x, {});
    EXPECT_EQ(fnv1a(blocks.data(), blocks.size()), expected.blocks) << format.name;
    const std::vector<float> y = decoded(format, blocks);
    EXPECT_EQ(fnv1a(y.data(), y.size() * sizeof(float)), expected.decoded) << format.name << " decoded";
    const std::vector<std::byte> weighted = encoded(format, x, weights);
    EXPECT_EQ(fnv1a(weighted.data(), weighted.size()), expected.weighted_blocks)
        << format.name << " with importance";
  }
}

// The error of a format on normally distributed numbers, as a share of their size.
TEST(Quant, ErrorStaysWithinTheFormat) {
  const struct {
    Dtype dtype;
    double bound;
  } kBounds[] = {{Dtype::f32, 0.0},      {Dtype::f16, 3e-4},   {Dtype::bf16, 2e-3},    {Dtype::q8_0, 0.006},
                 {Dtype::q6_k, 0.02},    {Dtype::q5_k, 0.04},  {Dtype::q5_1, 0.045},   {Dtype::q5_0, 0.045},
                 {Dtype::q4_k, 0.08},    {Dtype::q4_1, 0.09},  {Dtype::q4_0, 0.1},     {Dtype::iq4_nl, 0.08},
                 {Dtype::iq4_xs, 0.085}, {Dtype::mxfp4, 0.13}, {Dtype::f8_e4m3, 0.03}, {Dtype::nvfp4, 0.11},
                 {Dtype::q4_z, 0.1},     {Dtype::q8_z, 0.006}, {Dtype::q3_k, 0.17},    {Dtype::q2_k, 0.32}};
  const std::vector<float> x = input();
  for (const auto& [dtype, bound] : kBounds) {
    const std::vector<float> y = decoded(format_of(dtype), encoded(format_of(dtype), x, {}));
    double error = 0.0, size = 0.0;
    for (size_t i = 5 * kCols; i < x.size(); ++i) {
      error += std::pow(double{y[i]} - x[i], 2);
      size += std::pow(double{x[i]}, 2);
    }
    EXPECT_LE(std::sqrt(error / size), bound) << format_of(dtype).name;
  }
}

double weighted_error(const std::vector<float>& x, const std::vector<float>& y,
                      std::span<const float> weights) {
  double error = 0.0;
  for (size_t i = 5 * kCols; i < x.size(); ++i) {
    error += double{weights[i % kCols]} * std::pow(double{y[i]} - x[i], 2);
  }
  return error;
}

// Also where few columns have any, so that many groups hang on one element or none.
TEST(Quant, ImportanceLowersTheErrorItWeighs) {
  const std::vector<float> x = input(), dense = importance();
  std::vector<float> sparse(kCols, 0.0f);
  for (size_t i = 0; i < sparse.size(); i += 7 + i % 11) sparse[i] = dense[i];
  for (const Format& format : all_formats()) {
    if (format.encode == nullptr) continue;
    const std::vector<float> plain = decoded(format, encoded(format, x, {}));
    for (const auto& weights : {dense, sparse}) {
      const std::vector<std::byte> blocks = encoded(format, x, weights);
      EXPECT_TRUE(format.is_sound(blocks.data(), kRows * kCols)) << format.name;
      EXPECT_LE(weighted_error(x, decoded(format, blocks), weights), weighted_error(x, plain, weights))
          << format.name;
    }
  }
}

TEST(Quant, HostileValuesDoNotCrash) {
  const float kInfinity = std::numeric_limits<float>::infinity();
  const float values[] = {0.0f, -0.0f, 1e-45f, 1e-30f, 3e38f, -3e38f, kInfinity, -kInfinity, std::nanf("")};
  for (const Format& format : all_formats()) {
    if (format.encode == nullptr) continue;
    for (const float a : values) {
      for (const float b : values) {
        std::vector<float> x(256, a);
        for (size_t i = 0; i < x.size(); i += 3) x[i] = b;
        std::vector<std::byte> blocks(static_cast<size_t>(n_bytes_of(format.dtype, 256)));
        format.encode(x.data(), blocks.data(), 256, {});
        format.encode(x.data(), blocks.data(), 256, std::vector<float>(256, 1.0f));
        format.decode(blocks.data(), x.data(), 256);
      }
    }
  }
}

TEST(Quant, SoundnessSeesBadScales) {
  for (const Format& format : all_formats()) {
    if (format.is_sound == nullptr) continue;
    std::vector<std::byte> blocks(static_cast<size_t>(n_bytes_of(format.dtype, 256)), std::byte{0});
    EXPECT_TRUE(format.is_sound(blocks.data(), 256)) << format.name;
    std::fill(blocks.begin(), blocks.end(), std::byte{0xff});
    EXPECT_FALSE(format.is_sound(blocks.data(), 256)) << format.name;
  }
}

TEST(Quant, FormatsAreFoundByNameAndId) {
  for (const Format& format : all_formats()) {
    EXPECT_EQ(dtype_of_name(format.name), format.dtype);
    if (format.ggml_type == kNoGgmlType) continue;
    EXPECT_EQ(dtype_of_ggml_type(format.ggml_type), format.dtype);
  }
  EXPECT_EQ(dtype_of_name("q4_k"), Dtype::q4_k);
  EXPECT_FALSE(dtype_of_name("Q4"));
  EXPECT_FALSE(dtype_of_ggml_type(4));
  EXPECT_FALSE(dtype_of_ggml_type(kNoGgmlType));
}

// By the definition of the type: sign, 4 bits of exponent with a bias of 7, 3 bits of mantissa.
TEST(Quant, EveryE4m3IsItsValueAndSurvives) {
  for (int bits = 0; bits < 256; ++bits) {
    const auto byte = static_cast<uint8_t>(bits);
    if ((bits & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(float_of_e4m3(byte)));
      continue;
    }
    const int exponent = bits >> 3 & 15, mantissa = bits & 7;
    const double magnitude =
        exponent == 0 ? mantissa * 0x1p-9 : std::ldexp(1.0 + mantissa / 8.0, exponent - 7);
    EXPECT_EQ(float_of_e4m3(byte), static_cast<float>(bits < 128 ? magnitude : -magnitude)) << bits;
    EXPECT_EQ(e4m3_of_float(float_of_e4m3(byte)), byte);
  }
  for (uint8_t low = 0; low < 0x7e; ++low) {
    const float middle = 0.5f * (float_of_e4m3(low) + float_of_e4m3(static_cast<uint8_t>(low + 1)));
    EXPECT_EQ(e4m3_of_float(middle), low % 2 == 0 ? low : low + 1);
    EXPECT_EQ(e4m3_of_float(std::nextafter(middle, 1e9f)), low + 1);
    EXPECT_EQ(e4m3_of_float(std::nextafter(middle, 0.0f)), low);
  }
  EXPECT_EQ(e4m3_of_float(1e30f), 0x7e);
  EXPECT_EQ(e4m3_of_float(-460.0f), 0xfe);
}

// A row of 144 in blocks of 128 and of 64 takes whole blocks, and decodes to as many elements.
TEST(Quant, ARowMayEndInAPartOfABlock) {
  const std::vector<float> x = input();
  for (const Format& format : all_formats()) {
    if (!format.has_partial_blocks) continue;
    const int64_t n_blocks = (144 + format.block_elems - 1) / format.block_elems;
    ASSERT_EQ(n_bytes_of(format.dtype, 144), n_blocks * format.block_bytes);
    std::vector<std::byte> row(static_cast<size_t>(n_bytes_of(format.dtype, 144)), std::byte{0xff});
    format.encode(x.data(), row.data(), 144, {});
    std::vector<float> whole(static_cast<size_t>(n_blocks * format.block_elems)), part(144);
    format.decode(row.data(), part.data(), 144);
    format.decode(row.data(), whole.data(), std::ssize(whole));
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_EQ(whole[i], i < 144 ? part[i] : 0.0f) << i;
    EXPECT_NEAR(part[143], x[143], 0.3f * std::fabs(x[143]));
  }
}

TEST(Half, EveryPatternSurvives) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    if ((half & 0x7c00) == 0x7c00 && (half & 0x3ff) != 0) {
      EXPECT_TRUE(std::isnan(float_of_f16(half)));
    } else {
      EXPECT_EQ(f16_of_float(float_of_f16(half)), half);
      EXPECT_EQ(float_of_f16(half),
                static_cast<float>(
                    std::ldexp((half & 0x7c00) != 0 ? (half & 0x3ff) | 0x400 : half & 0x3ff,
                               (half & 0x7c00) == 0x7c00 ? 1000 : std::max(half >> 10 & 31, 1) - 25) *
                    ((half & 0x8000) != 0 ? -1 : 1)));
    }
    if ((half & 0x7f80) != 0x7f80 || (half & 0x7f) == 0) {
      EXPECT_EQ(bf16_of_float(float_of_bf16(half)), half);
    }
  }
}

TEST(Half, TiesGoToEven) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const auto low = static_cast<uint16_t>(bits), high = static_cast<uint16_t>(bits + 1);
    const float middle = 0.5f * (float_of_f16(low) + float_of_f16(high));
    EXPECT_EQ(f16_of_float(middle), (bits & 1) != 0 ? high : low);
    EXPECT_EQ(f16_of_float(std::nextafter(middle, 0.0f)), low);
    EXPECT_EQ(f16_of_float(std::nextafter(middle, 1e9f)), high);
  }
  EXPECT_EQ(f16_of_float(65519.996f), 0x7bff);
  EXPECT_EQ(f16_of_float(65520.0f), 0x7c00);
  EXPECT_EQ(bf16_of_float(1.00390625f), 0x3f80);  // half way between 1 and 1 + 2^-7
  EXPECT_EQ(bf16_of_float(1.01171875f), 0x3f82);
}

// The decoder of rows is another text than float_of_f16().
TEST(Half, RowsDecodeAsSingleNumbersDo) {
  std::vector<uint16_t> halves(1 << 16);
  for (uint32_t bits = 0; bits < halves.size(); ++bits) halves[bits] = static_cast<uint16_t>(bits);
  std::vector<float> decoded(halves.size());
  format_of(Dtype::f16)
      .decode(reinterpret_cast<const std::byte*>(halves.data()), decoded.data(), std::ssize(decoded));
  for (size_t i = 0; i < halves.size(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]), std::bit_cast<uint32_t>(float_of_f16(halves[i]))) << i;
}

}  // namespace
}  // namespace millrace
