// What reader and writer must agree on about the bytes of a GGUF file.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace millrace::gguf {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

inline constexpr std::string_view kMagic = "GGUF";
inline constexpr uint32_t kVersion = 3;
inline constexpr uint32_t kOldestVersion = 2;  // the same layout; version 1 had 32-bit counts
inline constexpr uint64_t kDefaultAlignment = 32;
inline constexpr std::string_view kAlignmentKey = "general.alignment";
inline constexpr size_t kMaxKeyBytes = 65535;
inline constexpr size_t kMaxNameBytes = 255;  // of a tensor; ggml's own limit is 63
inline constexpr uint32_t kMaxDims = 4;

enum class ValueType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

// Calls f with a zero of the C++ type that stores a number of that type. False, without a call, for the types
// that are no numbers.
template <class F>
bool with_number_type(ValueType type, const F& f) {
  // clang-format off
  switch (type) {
    case ValueType::u8: f(uint8_t{}); return true;
    case ValueType::i8: f(int8_t{}); return true;
    case ValueType::u16: f(uint16_t{}); return true;
    case ValueType::i16: f(int16_t{}); return true;
    case ValueType::u32: f(uint32_t{}); return true;
    case ValueType::i32: f(int32_t{}); return true;
    case ValueType::u64: f(uint64_t{}); return true;
    case ValueType::i64: f(int64_t{}); return true;
    case ValueType::f32: f(float{}); return true;
    case ValueType::f64: f(double{}); return true;
    default: return false;
  }
  // clang-format on
}

}  // namespace millrace::gguf
