#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/codecs.h"
#include "quant/search.h"
#include "quant/zero_point/layout.h"

namespace millrace {
namespace {

constexpr int kElems = kZeroPointElems;

struct Span {
  float low = 0.0f;  // of the elements and zero, which has to be representable
  float high = 0.0f;
};

Span span_of(const float* x) {
  Span span;
  for (int i = 0; i < kElems; ++i) {
    const float value = std::clamp(x[i], -1e30f, 1e30f);
    if (value < span.low) span.low = value;
    if (value > span.high) span.high = value;
  }
  return span;
}

// Of what is no number: the level of 0.
int level(float x, float inverse, int zero, int high) {
  if (std::isnan(x)) return zero;
  return static_cast<int>(
      std::clamp(std::nearbyint(std::clamp(x, -1e30f, 1e30f) * inverse) + static_cast<float>(zero), 0.0f,
                 static_cast<float>(high)));
}

float inverse_of(float d) { return d > 1e-30f && std::isfinite(d) ? 1.0f / d : 0.0f; }

}  // namespace

void decode_q4_z(const std::byte* blocks, float* out, int64_t n_elems) {
  const auto* b = reinterpret_cast<const BlockQ4Z*>(blocks);
  for (int64_t i = 0; i < n_elems / kElems; ++i) {
    const float d = float_of_f16(number_in<uint16_t>(b[i].d));
    for (int j = 0; j < 16; ++j) {
      out[i * kElems + j] = d * static_cast<float>((b[i].qs[j] & 15) - b[i].z);
      out[i * kElems + j + 16] = d * static_cast<float>((b[i].qs[j] >> 4) - b[i].z);
    }
  }
}

void decode_q8_z(const std::byte* blocks, float* out, int64_t n_elems) {
  const auto* b = reinterpret_cast<const BlockQ8Z*>(blocks);
  for (int64_t i = 0; i < n_elems / kElems; ++i) {
    const auto d = number_in<float>(b[i].d);
    const int z = number_in<int16_t>(b[i].z);
    for (int j = 0; j < kElems; ++j) out[i * kElems + j] = d * static_cast<float>(b[i].qs[j] - z);
  }
}

void encode_q4_z(const float* in, std::byte* blocks, int64_t n_elems, Importance) {
  auto* b = reinterpret_cast<BlockQ4Z*>(blocks);
  for (int64_t i = 0; i < n_elems / kElems; ++i) {
    const float* x = in + i * kElems;
    const Span span = span_of(x);
    const float d = rounded_f16(std::min((span.high - span.low) / 15.0f, 65504.0f));
    const float inverse = inverse_of(d);
    put_number(f16_of_float(d), b[i].d);
    b[i].z = static_cast<uint8_t>(level(-span.low, inverse, 0, 15));
    for (int j = 0; j < 16; ++j) {
      b[i].qs[j] =
          static_cast<uint8_t>(level(x[j], inverse, b[i].z, 15) | level(x[j + 16], inverse, b[i].z, 15) << 4);
    }
  }
}

void encode_q8_z(const float* in, std::byte* blocks, int64_t n_elems, Importance) {
  auto* b = reinterpret_cast<BlockQ8Z*>(blocks);
  for (int64_t i = 0; i < n_elems / kElems; ++i) {
    const float* x = in + i * kElems;
    const Span span = span_of(x);
    const float d = (span.high - span.low) / 255.0f;
    const float inverse = inverse_of(d);
    const int zero = level(-span.low, inverse, 0, 255);
    put_number(d, b[i].d);
    put_number(static_cast<int16_t>(zero - 128), b[i].z);
    for (int j = 0; j < kElems; ++j) b[i].qs[j] = static_cast<int8_t>(level(x[j], inverse, zero, 255) - 128);
  }
}

bool is_sound_q4_z(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ4Z>(blocks, n_elems / kElems, [](const BlockQ4Z& b) {
    return is_finite_f16(number_in<uint16_t>(b.d)) && b.z < 16;
  });
}
bool is_sound_q8_z(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ8Z>(blocks, n_elems / kElems,
                              [](const BlockQ8Z& b) { return std::isfinite(number_in<float>(b.d)); });
}

}  // namespace millrace
