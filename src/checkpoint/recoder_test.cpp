#include "checkpoint/recoder.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <vector>

namespace millrace {
namespace {

std::vector<float> noise(size_t n) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

Tensor view(std::vector<float>& values, int64_t n_cols) {
  return Tensor(values.data(), Dtype::f32, {std::ssize(values) / n_cols, n_cols});
}

struct Recoded {
  std::vector<std::byte> bytes;
  RecodeError error;
};

Recoded recode(const Tensor& from, Dtype dtype, int n_threads, std::span<const float> importance = {}) {
  Tensor to = from;
  to.dtype = dtype;
  Recoded out{std::vector<std::byte>(static_cast<size_t>(to.n_bytes())), {}};
  to.data = out.bytes.data();
  out.error = Recoder(n_threads).recode("w", from, to, importance);
  return out;
}

TEST(Recoder, ReportsWhatIsLost) {
  std::vector<float> values = {1.0f, 1.0f + 1.0f / 4096, 3.0f, 0.0f};  // float16 rounds the second down to 1
  const Recoded out = recode(view(values, 2), Dtype::f16, 1);
  EXPECT_DOUBLE_EQ(out.error.squares, 1.0 / 4096 / 4096);
  EXPECT_DOUBLE_EQ(out.error.largest, 1.0 / 4096);
  const auto second = static_cast<double>(values[1]);
  EXPECT_DOUBLE_EQ(out.error.norm, 1.0 + second * second + 9.0);
}

TEST(Recoder, GivesTheSameBitsOnAnyNumberOfThreads) {
  std::vector<float> values = noise(700 * 512);
  const Tensor from = view(values, 512);
  for (const Dtype dtype : {Dtype::bf16, Dtype::q8_0, Dtype::q4_k}) {
    const Recoded one = recode(from, dtype, 1), three = recode(from, dtype, 3);
    EXPECT_EQ(one.bytes, three.bytes);
    EXPECT_EQ(one.error.squares, three.error.squares);
    std::vector<float> decoded(values.size());
    format_of(dtype).decode(one.bytes.data(), decoded.data(), std::ssize(decoded));
    double squares = 0.0;
    for (size_t i = 0; i < values.size(); ++i) squares += std::pow(decoded[i] - values[i], 2);
    EXPECT_NEAR(one.error.squares, squares, 1e-3 * squares);
  }
}

TEST(Recoder, GivesEachMatrixItsImportance) {
  std::vector<float> values = noise(2 * 3 * 32);
  const Tensor from(values.data(), Dtype::f32, {2, 3, 32});
  std::vector<float> importance(64, 1.0f);
  importance[32] = 1e6f;  // of column 0 in the second matrix
  const Recoded out = recode(from, Dtype::q4_0, 1, importance);
  std::vector<std::byte> expected(static_cast<size_t>(n_bytes_of(Dtype::q4_0, 32)));
  for (int64_t row = 0; row < 6; ++row) {
    format_of(Dtype::q4_0)
        .encode(values.data() + row * 32, expected.data(), 32,
                std::span(importance).subspan(row < 3 ? 0 : 32, 32));
    const auto n = std::ssize(expected);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), out.bytes.begin() + row * n)) << row;
  }
}

TEST(Recoder, RefusesWhatAFormatCannotHold) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e30f}) {
    std::vector<float> values = noise(128);
    values[70] = bad;
    for (const Dtype dtype : {Dtype::f16, Dtype::q8_0}) {
      try {
        recode(view(values, 32), dtype, 2);
        ADD_FAILURE() << "no error for " << bad << " as " << format_of(dtype).name;
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("row 2 of tensor w"), std::string::npos) << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace millrace
