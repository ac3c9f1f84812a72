// Each kind of quantised weight by numbers that can be read off its bits, and the tensors that are none.
#include "checkpoint/packed_weight.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "quant/half.h"

namespace millrace {
namespace {

// A safetensors file in memory. Every name begins with "w".
class File {
 public:
  template <class T>
  File& add(std::string_view ending, std::string_view dtype, Json::Array shape,
            const std::vector<T>& values) {
    const auto begin = static_cast<int64_t>(data_.size());
    data_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    Json& entry = header_["w" + std::string(ending)];
    entry["dtype"] = dtype;
    entry["shape"] = std::move(shape);
    entry["data_offsets"] = Json::Array{begin, static_cast<int64_t>(data_.size())};
    return *this;
  }
  std::string bytes() const {
    const std::string header = header_.dump();
    const uint64_t n_bytes = header.size();
    std::string file(sizeof n_bytes, '\0');
    std::memcpy(file.data(), &n_bytes, sizeof n_bytes);
    return file + header + data_;
  }

 private:
  Json header_;
  std::string data_;
};

struct Result {
  Dtype dtype = Dtype::f32;
  int64_t n_cols = 0;
  std::vector<float> values;

  float at(int64_t output, int64_t input) const {
    return values[static_cast<size_t>(output * n_cols + input)];
  }
};

// `format` none: that of the layout.
Result result_of(const File& file, const PackedMaker& make, std::optional<Dtype> format = {}) {
  const std::string bytes = file.bytes();
  const auto list = parse_safetensors(std::as_bytes(std::span(bytes)), "test");
  const std::unique_ptr<PackedWeight> weight = make(PackedTensors(list, "w"));
  Tensor tensor = weight->layout();
  tensor.dtype = format.value_or(tensor.dtype);
  std::vector<std::byte> blocks(static_cast<size_t>(tensor.n_bytes()));
  weight->write(tensor.dtype, blocks.data());
  tensor.data = blocks.data();
  Result result{.dtype = tensor.dtype,
                .n_cols = tensor.n_cols(),
                .values = std::vector<float>(static_cast<size_t>(tensor.n_elems()))};
  for (int64_t row = 0; row < tensor.n_rows(); ++row)
    format_of(tensor.dtype)
        .decode(tensor.row(row), result.values.data() + row * result.n_cols, result.n_cols);
  return result;
}

std::string refusal_of(const File& file, const PackedMaker& make) {
  try {
    result_of(file, make);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    return error.what();
  }
  return "";
}

uint16_t half(float value) { return f16_of_float(value); }

// Of eight outputs, nibble k of a word is output 0 2 4 6 1 3 5 7.
TEST(PackedWeight, Awq) {
  std::vector<uint32_t> codes(32, 0);
  codes[5] = 0x76543210;
  File file;
  file.add(".qweight", "I32", {32, 1}, codes)
      .add(".qzeros", "I32", {1, 1}, std::vector<uint32_t>{0x00000003});
  file.add(".scales", "F16", {1, 8}, std::vector<uint16_t>(8, half(0.5f)));
  const Result found = result_of(file, make_awq);
  EXPECT_EQ(found.dtype, Dtype::q4_z);
  const float expected[] = {0, 4, 1, 5, 2, 6, 3, 7};
  for (int64_t o = 0; o < 8; ++o) {
    const float zero = o == 0 ? 3.0f : 0.0f;
    EXPECT_EQ(found.at(o, 5), 0.5f * (expected[o] - zero)) << o;
    EXPECT_EQ(found.at(o, 6), 0.5f * (0.0f - zero)) << o;
  }
}

// Codes lie along the inputs: word r holds inputs 8r to 8r + 7. The first version stores zeros less one.
File gptq_file(uint32_t zeros) {
  std::vector<uint32_t> codes(4 * 8, 0);
  codes[1 * 8 + 2] = 0xfedcba98;  // inputs 8 to 15 of output 2
  File file;
  file.add(".qweight", "I32", {4, 8}, codes).add(".qzeros", "I32", {1, 1}, std::vector<uint32_t>{zeros});
  file.add(".scales", "F16", {1, 8}, std::vector<uint16_t>(8, half(0.25f)));
  return file;
}

TEST(PackedWeight, Gptq) {
  const auto first = [](const PackedTensors& t) {
    return make_gptq(t, {.n_bits = 4, .stores_zero_minus_one = true});
  };
  const auto second = [](const PackedTensors& t) {
    return make_gptq(t, {.n_bits = 4, .stores_zero_minus_one = false});
  };
  const Result middle = result_of(gptq_file(0x77777777), first);
  EXPECT_EQ(middle.dtype, Dtype::q4_0);
  for (int64_t i = 8; i < 16; ++i) EXPECT_EQ(middle.at(2, i), 0.25f * static_cast<float>(i - 8)) << i;
  EXPECT_EQ(middle.at(3, 8), 0.25f * -8.0f);
  const Result other = result_of(gptq_file(0x77777777), second);
  EXPECT_EQ(other.dtype, Dtype::q4_z);
  EXPECT_EQ(other.at(2, 8), 0.25f * (8.0f - 7.0f));
  EXPECT_EQ(result_of(gptq_file(0xffffffff), first).at(2, 8), 0.25f * 8.0f);  // 15 + 1 wraps round
  EXPECT_EQ(result_of(gptq_file(0x77777777), second, Dtype::q8_z).values, other.values);
}

// Inputs of one group that are not beside each other: each has its own scale.
TEST(PackedWeight, GptqInActOrder) {
  File file;
  std::vector<int32_t> groups(32);
  for (size_t i = 0; i < groups.size(); ++i) groups[i] = static_cast<int32_t>(i % 2);
  std::vector<uint16_t> scales(16, half(1.0f));
  std::fill_n(scales.begin() + 8, 8, half(3.0f));
  file.add(".qweight", "I32", {4, 8}, std::vector<uint32_t>(32, 0x99999999));
  file.add(".qzeros", "I32", {2, 1}, std::vector<uint32_t>{0x77777777, 0x77777777});
  file.add(".scales", "F16", {2, 8}, scales).add(".g_idx", "I32", {32}, groups);
  const Result found = result_of(file, [](const PackedTensors& t) { return make_gptq(t, {}); });
  EXPECT_EQ(found.dtype, Dtype::f16);
  EXPECT_EQ(found.at(4, 6), 1.0f);
  EXPECT_EQ(found.at(4, 7), 3.0f);
}

TEST(PackedWeight, PackQuantized) {
  File file;
  file.add(".weight_packed", "I32", {1, 4}, std::vector<uint32_t>{0x76543210, 0, 0, 0xf0000000});
  file.add(".weight_scale", "BF16", {1, 1}, std::vector<uint16_t>{bf16_of_float(0.5f)});
  file.add(".weight_shape", "I64", {2}, std::vector<int64_t>{1, 32});
  const auto make = [](const PackedTensors& t) { return make_pack_quantized(t, 4); };
  const Result found = result_of(file, make);
  EXPECT_EQ(found.dtype, Dtype::q4_0);
  EXPECT_EQ(found.at(0, 3), 0.5f * (3.0f - 8.0f));
  EXPECT_EQ(found.at(0, 31), 0.5f * (15.0f - 8.0f));
  file.add(".weight_zero_point", "I32", {1, 1}, std::vector<uint32_t>{2});
  EXPECT_EQ(result_of(file, make).at(0, 3), 0.5f * (3.0f - 2.0f));
}

// 1 + 2^-20 is no float16: the scale stays a float32.
TEST(PackedWeight, ScalesThatFloat16CannotHold) {
  const float scale = 1.0f + 0x1p-20f;
  File file;
  file.add(".weight", "I8", {1, 32}, std::vector<int8_t>(32, -128))
      .add(".weight_scale", "F32", {1, 1}, std::vector<float>{scale});
  const Result found = result_of(file, make_int8);
  EXPECT_EQ(found.dtype, Dtype::q8_z);
  EXPECT_EQ(found.at(0, 31), -128.0f * scale);
}

TEST(PackedWeight, Fp8HasRaggedBlocks) {
  std::vector<uint8_t> codes(130 * 144, 0x38);  // 1.0
  codes[129 * 144 + 143] = 0xc8;                // -4.0
  File file;
  file.add(".weight", "F8_E4M3", {130, 144}, codes)
      .add(".weight_scale_inv", "F32", {2, 2}, std::vector<float>{1, 2, 3, 4});
  const auto make = [](const PackedTensors& t) { return make_fp8(t, ".weight", ".weight_scale_inv", {}); };
  const Result found = result_of(file, make);
  EXPECT_EQ(found.at(127, 127), 1.0f);
  EXPECT_EQ(found.at(127, 128), 2.0f);
  EXPECT_EQ(found.at(128, 127), 3.0f);
  EXPECT_EQ(found.at(129, 143), -16.0f);
  const Result other = result_of(file, [&](const PackedTensors& t) { return make(t)->transposed(); });
  ASSERT_EQ(other.n_cols, 130);
  for (int64_t row = 0; row < 130; ++row) {
    for (int64_t col = 0; col < 144; ++col) EXPECT_EQ(other.at(col, row), found.at(row, col));
  }
}

// The scale of a row would change within a block of a column.
TEST(PackedWeight, ScalesOfRowsDoNotAllowToTranspose) {
  File file;
  file.add(".weight", "F8_E4M3", {4, 128}, std::vector<uint8_t>(512, 0x38));
  file.add(".weight_scale", "F32", {4, 1}, std::vector<float>{1, 2, 3, 4});
  const std::string bytes = file.bytes();
  const auto list = parse_safetensors(std::as_bytes(std::span(bytes)), "test");
  EXPECT_EQ(make_fp8(PackedTensors(list, "w"), ".weight", ".weight_scale", {})->transposed(), nullptr);
}

TEST(PackedWeight, Fp4) {
  std::vector<uint8_t> codes(16, 0);
  codes[0] = 0x72;  // element 0 is 1.0, element 1 is 6.0
  codes[15] = 0xf0;
  File mx;
  mx.add(".weight_packed", "U8", {1, 16}, codes)
      .add(".weight_scale", "U8", {1, 1}, std::vector<uint8_t>{128});
  const Result doubled =
      result_of(mx, [](const PackedTensors& t) { return make_mxfp4(t, ".weight_packed", ".weight_scale"); });
  EXPECT_EQ(doubled.at(0, 0), 2.0f);
  EXPECT_EQ(doubled.at(0, 1), 12.0f);
  EXPECT_EQ(doubled.at(0, 31), -12.0f);
  File nv;
  nv.add(".weight_packed", "U8", {1, 16}, codes)
      .add(".weight_scale", "F8_E4M3", {1, 2}, std::vector<uint8_t>{0x38, 0x40});
  nv.add(".weight_global_scale", "F32", {1}, std::vector<float>{4});
  const Nvfp4Names names{".weight_packed", ".weight_scale", ".weight_global_scale", GlobalScale::divides};
  const Result scaled = result_of(nv, [names](const PackedTensors& t) { return make_nvfp4(t, names); });
  EXPECT_EQ(scaled.at(0, 1), 6.0f * 1.0f / 4.0f);
  EXPECT_EQ(scaled.at(0, 31), -6.0f * 2.0f / 4.0f);
}

// Shapes, types and numbers that lie.
TEST(PackedWeight, RefusesWhatContradictsItself) {
  const auto gptq = [](const PackedTensors& t) { return make_gptq(t, {}); };
  EXPECT_EQ(refusal_of(gptq_file(0x77777777), gptq), "");
  const auto with = [&](std::string_view ending, std::string_view dtype, Json::Array shape, auto values) {
    return refusal_of(gptq_file(0x77777777).add(ending, dtype, std::move(shape), values), gptq);
  };
  EXPECT_NE(with(".g_idx", "I32", {32}, std::vector<int32_t>(32, 1)), "");
  EXPECT_NE(with(".g_idx", "I32", {32}, std::vector<int32_t>(32, -1)), "");
  EXPECT_NE(with(".g_idx", "I32", {31}, std::vector<int32_t>(31, 0)), "");
  EXPECT_NE(with(".g_idx", "F32", {32}, std::vector<float>(32, 0)), "");
  EXPECT_EQ(with(".g_idx", "I32", {32}, std::vector<int32_t>(32, 0)), "");

  File shape;
  shape.add(".weight_packed", "I32", {1, 4}, std::vector<uint32_t>(4));
  shape.add(".weight_scale", "F16", {1, 1}, std::vector<uint16_t>{half(1.0f)});
  const auto packed = [](const PackedTensors& t) { return make_pack_quantized(t, 4); };
  for (const int64_t n : {int64_t{0}, int64_t{-32}, int64_t{24}, int64_t{64}, INT64_MAX}) {
    File other = shape;
    EXPECT_NE(refusal_of(other.add(".weight_shape", "I64", {2}, std::vector<int64_t>{1, n}), packed), "")
        << n;
  }
  EXPECT_NE(refusal_of(shape, packed), "");

  const auto fp8 = [](const PackedTensors& t) { return make_fp8(t, ".weight", ".weight_scale_inv", {}); };
  File nan;
  nan.add(".weight", "F8_E4M3", {1, 2}, std::vector<uint8_t>{0x38, 0x7f})
      .add(".weight_scale_inv", "F32", {1, 1}, std::vector<float>{1});
  EXPECT_NE(refusal_of(nan, fp8).find("NaN"), std::string::npos);
  File none;
  none.add(".weight", "F8_E4M3", {0, 2}, std::vector<uint8_t>{})
      .add(".weight_scale_inv", "F32", {1, 1}, std::vector<float>{1});
  EXPECT_NE(refusal_of(none, fp8), "");
}

}  // namespace
}  // namespace millrace
