#include "quant/format.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "quant/codecs.h"

namespace millrace {
namespace {

constexpr Format kFormats[] = {
    // in the order of Dtype
    {Dtype::f32, "F32", 0, 1, 4, decode_f32, encode_f32, is_sound_f32},
    {Dtype::f16, "F16", 1, 1, 2, decode_f16, encode_f16, is_sound_f16},
    {Dtype::bf16, "BF16", 30, 1, 2, decode_bf16, encode_bf16, is_sound_bf16},
    {Dtype::i32, "I32", 26, 1, 4, nullptr, nullptr, nullptr},
    {Dtype::q4_0, "Q4_0", 2, 32, 18, decode_q4_0, encode_q4_0, is_sound_q4_0},
    {Dtype::q4_1, "Q4_1", 3, 32, 20, decode_q4_1, encode_q4_1, is_sound_q4_1},
    {Dtype::q5_0, "Q5_0", 6, 32, 22, decode_q5_0, encode_q5_0, is_sound_q5_0},
    {Dtype::q5_1, "Q5_1", 7, 32, 24, decode_q5_1, encode_q5_1, is_sound_q5_1},
    {Dtype::q8_0, "Q8_0", 8, 32, 34, decode_q8_0, encode_q8_0, is_sound_q8_0},
    {Dtype::q2_k, "Q2_K", 10, 256, 84, decode_q2_k, encode_q2_k, is_sound_q2_k},
    {Dtype::q3_k, "Q3_K", 11, 256, 110, decode_q3_k, encode_q3_k, is_sound_q3_k},
    {Dtype::q4_k, "Q4_K", 12, 256, 144, decode_q4_k, encode_q4_k, is_sound_q4_k},
    {Dtype::q5_k, "Q5_K", 13, 256, 176, decode_q5_k, encode_q5_k, is_sound_q5_k},
    {Dtype::q6_k, "Q6_K", 14, 256, 210, decode_q6_k, encode_q6_k, is_sound_q6_k},
    {Dtype::iq4_nl, "IQ4_NL", 20, 32, 18, decode_iq4_nl, encode_iq4_nl, is_sound_iq4_nl},
    {Dtype::iq4_xs, "IQ4_XS", 23, 256, 136, decode_iq4_xs, encode_iq4_xs, is_sound_iq4_xs},
    {Dtype::mxfp4, "MXFP4", 39, 32, 17, decode_mxfp4, encode_mxfp4, is_sound_mxfp4},
    {Dtype::f8_e4m3, "F8_E4M3", kNoGgmlType, 128, 132, decode_f8_e4m3, encode_f8_e4m3, is_sound_f8_e4m3,
     true},
    {Dtype::nvfp4, "NVFP4", kNoGgmlType, 64, 40, decode_nvfp4, encode_nvfp4, is_sound_nvfp4, true},
    {Dtype::q4_z, "Q4_Z", kNoGgmlType, 32, 19, decode_q4_z, encode_q4_z, is_sound_q4_z},
    {Dtype::q8_z, "Q8_Z", kNoGgmlType, 32, 38, decode_q8_z, encode_q8_z, is_sound_q8_z},
};

constexpr bool is_in_order() {
  for (int i = 0; i < kNDtypes; ++i) {
    if (static_cast<int>(kFormats[i].dtype) != i) return false;
  }
  return true;
}
static_assert(std::size(kFormats) == kNDtypes && is_in_order());

char upper(char c) { return static_cast<char>(std::toupper(static_cast<unsigned char>(c))); }

template <class Match>
std::optional<Dtype> first(Match match) {
  const auto* format = std::ranges::find_if(kFormats, match);
  return format == std::end(kFormats) ? std::nullopt : std::optional(format->dtype);
}

}  // namespace

const Format& format_of(Dtype dtype) {
  check(static_cast<int>(dtype) < kNDtypes, "no such dtype");
  return kFormats[static_cast<int>(dtype)];
}

std::span<const Format> all_formats() { return kFormats; }

std::optional<Dtype> dtype_of_name(std::string_view name) {
  return first([&](const Format& format) { return std::ranges::equal(format.name, name, {}, {}, upper); });
}

std::optional<Dtype> dtype_of_ggml_type(uint32_t ggml_type) {
  if (ggml_type == kNoGgmlType) return std::nullopt;
  return first([&](const Format& format) { return format.ggml_type == ggml_type; });
}

// Small floats fit bfloat16 best, which has their range; products of a float16 and a small integer float16.
Dtype gguf_dtype_of(Dtype dtype) {
  if (format_of(dtype).ggml_type != kNoGgmlType) return dtype;
  return dtype == Dtype::q4_z || dtype == Dtype::q8_z ? Dtype::f16 : Dtype::bf16;
}

}  // namespace millrace
