// Every format on every instruction set of this machine: near the reference, and the same bits for any number
// of rows and threads. (Op by op, on more shapes: op_test.cpp.)
#include "backend/cpu/cpu.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace millrace {
namespace {

std::vector<float> random_floats(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(n);
  for (float& x : out) x = normal(random);
  return out;
}

struct Weights {
  Weights(Dtype dtype, int64_t n_out, int64_t n_in)
      : bytes(static_cast<size_t>(n_out * n_bytes_of(dtype, n_in))),
        tensor(bytes.data(), dtype, {n_out, n_in}) {
    const std::vector<float> values = random_floats(static_cast<size_t>(n_out * n_in), 5);
    for (int64_t r = 0; r < n_out; ++r)
      format_of(dtype).encode(values.data() + r * n_in, tensor.row(r), n_in, {});
  }
  std::vector<std::byte> bytes;
  Tensor tensor;
};

std::vector<float> linear(Backend& backend, const Tensor& weight, std::vector<float> x, int64_t n_rows) {
  std::vector<float> out(static_cast<size_t>(n_rows * weight.dim(0)));
  backend.run(Linear{
      .x = Tensor(x.data(), Dtype::f32, {n_rows, weight.dim(1)}),
      .products = {{.weight = weight, .out = Tensor(out.data(), Dtype::f32, {n_rows, weight.dim(0)})}}});
  return out;
}

double error_of(const std::vector<float>& found, const std::vector<float>& expected) {
  double error = 0.0, size = 0.0;
  for (size_t i = 0; i < found.size(); ++i) {
    error += std::pow(double{found[i]} - expected[i], 2);
    size += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(error / size);
}

TEST(Cpu, LinearIsNearTheReferenceAndTheSameForAnyNumberOfRows) {
  const auto reference = make_reference_backend();
  for (const Format& format : all_formats()) {
    if (format.encode == nullptr) continue;
    const bool is_plain = format.block_elems == 1;
    const int64_t n_in = is_plain ? 107 : 512, n_out = 77;
    const Weights weights(format.dtype, n_out, n_in);
    const std::vector<float> x = random_floats(static_cast<size_t>(33 * n_in), 6);
    const std::vector<float> expected = linear(*reference, weights.tensor, x, 33);
    for (const std::string_view set : cpu_instruction_sets()) {
      const auto one = make_cpu_backend(1, set), three = make_cpu_backend(3, set);
      const std::vector<float> whole = linear(*three, weights.tensor, x, 33);
      EXPECT_LT(error_of(whole, expected), is_plain ? 1e-6 : 1e-2) << format.name << " " << set;
      for (int64_t begin = 0, n = 1; begin + n <= 33; begin += n, n = n % 7 + 1) {
        const std::vector<float> part =
            linear(*one, weights.tensor, {x.begin() + begin * n_in, x.begin() + (begin + n) * n_in}, n);
        EXPECT_EQ(std::memcmp(part.data(), whole.data() + begin * n_out, part.size() * sizeof(float)), 0)
            << format.name << " " << set << ": rows " << begin << " to " << begin + n;
      }
    }
  }
}

TEST(Cpu, RefusesWhatThisMachineHasNot) {
  EXPECT_THROW(make_cpu_backend(0), Error);
  EXPECT_THROW(make_cpu_backend(1, "avx1024"), Error);
}

}  // namespace
}  // namespace millrace
