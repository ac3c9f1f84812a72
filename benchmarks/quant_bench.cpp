// Encoding and decoding speed of each format, one thread, in bytes of float32 a second.
#include <benchmark/benchmark.h>

#include <cmath>
#include <string>
#include <vector>

#include "quant/format.h"

namespace millrace {
namespace {

constexpr int64_t kElems = 1 << 16;

std::vector<float> wave() {
  std::vector<float> x(kElems);
  for (int64_t i = 0; i < kElems; ++i)
    x[i] = std::sin(0.37f * static_cast<float>(i)) * std::cos(0.011f * static_cast<float>(i));
  return x;
}

void encode(benchmark::State& state, const Format& format, const std::vector<float>& importance) {
  const std::vector<float> x = wave();
  std::vector<std::byte> blocks(static_cast<size_t>(n_bytes_of(format.dtype, kElems)));
  for (auto _ : state) format.encode(x.data(), blocks.data(), kElems, importance);
  state.SetBytesProcessed(state.iterations() * kElems * 4);
}

void decode(benchmark::State& state, const Format& format) {
  std::vector<float> x = wave();
  std::vector<std::byte> blocks(static_cast<size_t>(n_bytes_of(format.dtype, kElems)));
  format.encode(x.data(), blocks.data(), kElems, {});
  for (auto _ : state) format.decode(blocks.data(), x.data(), kElems);
  state.SetBytesProcessed(state.iterations() * kElems * 4);
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  for (const millrace::Format& format : millrace::all_formats()) {
    if (format.encode == nullptr) continue;
    const std::string name(format.name);
    const std::vector<float> none, ones(millrace::kElems, 1.0f);
    benchmark::RegisterBenchmark(("encode/" + name).c_str(), millrace::encode, format, none);
    benchmark::RegisterBenchmark(("encode_with_importance/" + name).c_str(), millrace::encode, format, ones);
    benchmark::RegisterBenchmark(("decode/" + name).c_str(), millrace::decode, format);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
