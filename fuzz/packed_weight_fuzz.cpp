// Quantised weights in a safetensors file from anywhere: every kind of weight that its tensors could be. What
// is laid out decodes within its bounds.
#include "checkpoint/packed_weight.h"

namespace {

using namespace millrace;

constexpr int64_t kMaxBytes = 1 << 20;

void lay_out(const PackedWeight& weight) {
  Tensor tensor = weight.layout();
  if (tensor.n_elems() > kMaxBytes) return;
  std::vector<std::byte> blocks(static_cast<size_t>(tensor.n_bytes()));
  weight.write(tensor.dtype, blocks.data());
  tensor.data = blocks.data();
  std::vector<float> row(static_cast<size_t>(tensor.n_cols()));
  for (int64_t i = 0; i < tensor.n_rows(); ++i)
    format_of(tensor.dtype).decode(tensor.row(i), row.data(), tensor.n_cols());
}

template <class Make>
void attempt(const Make& make) {
  try {
    const auto weight = make();
    lay_out(*weight);
    if (const auto other = weight->transposed()) lay_out(*other);
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    // As in a mapped file: at an address where a header of any length has left it.
    const std::vector<std::byte> file(reinterpret_cast<const std::byte*>(data),
                                      reinterpret_cast<const std::byte*>(data) + size);
    const auto list = parse_safetensors(file, "fuzzed");
    const PackedTensors w(list, "w");
    attempt([&] { return make_awq(w); });
    for (const int n_bits : {2, 3, 4, 8}) {
      attempt([&] { return make_gptq(w, {.n_bits = n_bits}); });
      attempt([&] { return make_pack_quantized(w, n_bits); });
    }
    attempt([&] { return make_int8(w); });
    attempt([&] { return make_fp8(w, ".weight", ".weight_scale_inv", {}); });
    attempt([&] { return make_mxfp4(w, ".weight_packed", ".weight_scale"); });
    attempt([&] {
      return make_nvfp4(w, {".weight_packed", ".weight_scale", ".weight_global_scale", GlobalScale::divides});
    });
  } catch (const Error&) {
  }
  return 0;
}
