// Every format on every instruction set of this machine: near the reference, and the same bits for any number
// of rows and threads. (Op by op, on more shapes: op_test.cpp.)
#include "backend/cpu/cpu.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <random>
#include <thread>
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

std::vector<float> linear_gated(Backend& backend, const Tensor& weight, std::vector<float> x,
                                int64_t n_rows) {
  std::vector<float> out(static_cast<size_t>(n_rows * weight.dim(0)));
  backend.run(LinearGated{.x = Tensor(x.data(), Dtype::f32, {n_rows, weight.dim(1)}),
                          .gate = weight,
                          .up = weight,
                          .out = Tensor(out.data(), Dtype::f32, {n_rows, weight.dim(0)}),
                          .activation = Activation::silu});
  return out;
}

// So many and so long that a strip is summed up in passes, and a few columns are left for other kernels.
TEST(Cpu, ManyLongRowsHaveTheSameBitsAsOne) {
  constexpr int64_t kIn = 4096, kOut = 48;
  for (const Dtype dtype : {Dtype::q4_k, Dtype::q5_k, Dtype::q6_k, Dtype::q8_0, Dtype::q4_1}) {
    const Weights weights(dtype, kOut, kIn);
    const std::vector<float> x = random_floats(static_cast<size_t>(520 * kIn), 8);
    for (const std::string_view set : cpu_instruction_sets()) {
      const auto one = make_cpu_backend(1, set), two = make_cpu_backend(2, set);
      for (const int64_t n_rows : {513, 520}) {
        const auto compute = n_rows == 513 ? linear : linear_gated;
        const std::vector<float> whole =
            compute(*two, weights.tensor, {x.begin(), x.begin() + n_rows * kIn}, n_rows);
        for (const int64_t row : {int64_t{0}, int64_t{300}, int64_t{511}, n_rows - 1}) {
          const auto begin = x.begin() + row * kIn;
          const std::vector<float> alone = compute(*one, weights.tensor, {begin, begin + kIn}, 1);
          EXPECT_EQ(std::memcmp(alone.data(), whole.data() + row * kOut, kOut * sizeof(float)), 0)
              << format_of(dtype).name << " " << set << ": row " << row << " of " << n_rows;
        }
      }
    }
  }
}

std::vector<float> embed(Backend& backend, const Tensor& table, std::vector<int32_t> tokens) {
  const auto n = static_cast<int64_t>(tokens.size());
  std::vector<float> out(static_cast<size_t>(n * table.dim(1)));
  backend.run(Embed{.tokens = Tensor(tokens.data(), Dtype::i32, {n}),
                    .table = table,
                    .out = Tensor(out.data(), Dtype::f32, {n, table.dim(1)})});
  return out;
}

// Weights whose rows make whole groups, and others.
TEST(Cpu, ReadsCopiesOfWeightsInsteadOfThem) {
  for (const Format& format : all_formats()) {
    if (format.encode == nullptr) continue;
    for (const int64_t n_out : {77, 96}) {
      for (const std::string_view set : cpu_instruction_sets()) {
        SCOPED_TRACE(fmt::format("{} {} {}", format.name, n_out, set));
        // Seven blocks: where some keep their scales together, a part of them is left.
        const int64_t n_in = format.block_elems == 1 ? 107 : 7 * format.block_elems;
        Weights weights(format.dtype, n_out, n_in);
        const auto cpu = make_cpu_backend(2, set);
        const std::vector<int64_t> counts = {1, 2, 7, 9, 16, 17, 40};  // of rows: each way to multiply
        std::vector<std::vector<float>> x, expected;
        for (const int64_t n : counts) {
          x.push_back(random_floats(static_cast<size_t>(n * n_in), static_cast<uint32_t>(n)));
          expected.push_back(linear(*cpu, weights.tensor, x.back(), n));
        }
        const std::vector<int32_t> tokens = {0, 1, 15, 16, 40, 76};
        const std::vector<float> rows = embed(*cpu, weights.tensor, tokens);
        EXPECT_EQ(cpu->copy_weights({&weights.tensor, 1}, {}, [](auto) {}), weights.tensor.n_bytes());
        std::ranges::fill(weights.bytes, std::byte{0});
        for (size_t i = 0; i < counts.size(); ++i)
          EXPECT_TRUE(linear(*cpu, weights.tensor, x[i], counts[i]) == expected[i]) << counts[i] << " rows";
        EXPECT_TRUE(embed(*cpu, weights.tensor, tokens) == rows);
      }
    }
  }
}

TEST(Cpu, ComputesTheSameWhileWeightsAreCopied) {
  std::vector<Weights> weights;
  for (int i = 0; i < 16; ++i) weights.emplace_back(i % 2 == 0 ? Dtype::q4_k : Dtype::bf16, 256, 1024);
  std::vector<Tensor> tensors;
  for (const Weights& each : weights) tensors.push_back(each.tensor);
  const auto cpu = make_cpu_backend(2);
  const std::vector<float> x = random_floats(3 * 1024, 6);
  std::vector<std::vector<float>> expected;
  for (const Tensor& tensor : tensors) expected.push_back(linear(*cpu, tensor, x, 3));
  std::atomic<bool> is_done = false;
  std::jthread copying([&] {
    cpu->copy_weights(tensors, {}, [](auto) {});
    is_done = true;
  });
  bool was_done = false;
  do {
    was_done = is_done;
    for (size_t i = 0; i < tensors.size(); ++i) EXPECT_TRUE(linear(*cpu, tensors[i], x, 3) == expected[i]);
  } while (!was_done);
}

TEST(Cpu, StopsCopyingWhenItIsAskedTo) {
  const Weights weights(Dtype::q4_k, 96, 512);
  const auto cpu = make_cpu_backend(1);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(cpu->copy_weights({&weights.tensor, 1}, stop.get_token(), [](auto) {}), 0);
}

TEST(Cpu, RefusesWhatThisMachineHasNot) {
  EXPECT_THROW(make_cpu_backend(0), Error);
  EXPECT_THROW(make_cpu_backend(1, "avx1024"), Error);
}

}  // namespace
}  // namespace millrace
