#include <algorithm>
#include <cmath>
#include <cstring>

#include "quant/codecs.h"
#include "quant/legacy/layout.h"
#include "quant/search.h"

namespace millrace {
namespace {

// Blocks on their way: rounded together, because a search takes several at once, then packed one by one.
struct Run {
  static constexpr int kBlocks = 8;
  float d[kBlocks];
  float m[kBlocks];  // of the models with a minimum
  uint8_t levels[kBlocks][kLegacyElems];
};

void pack_nibbles(const uint8_t* levels, uint8_t (&qs)[16]) {
  for (int j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((levels[j] & 15) | (levels[j + 16] & 15) << 4);
}

// Bit 4 of eight levels becomes a byte: the factor moves that of level j to bit 56 + j.
void pack_fifth_bits(const uint8_t* levels, uint8_t (&qh)[4]) {
  for (int k = 0; k < 4; ++k) {
    uint64_t eight = 0;
    std::memcpy(&eight, levels + 8 * k, sizeof eight);
    qh[k] = static_cast<uint8_t>((eight >> 4 & 0x0101010101010101u) * 0x0102040810204080u >> 56);
  }
}

// x ~ (level - n_max) * d.
struct AroundZero {
  static void round(const float* x, int n_max, Run& run, int i) {
    const float d = largest(x, kLegacyElems) / static_cast<float>(-n_max);
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    const float half = static_cast<float>(n_max) + 0.5f;
    for (int k = 0; k < kLegacyElems; ++k)
      run.levels[i][k] = static_cast<uint8_t>(truncated(x[k] * inverse + half, 2 * n_max - 1));
    run.d[i] = d;
  }

  static void search(const GroupSpan& groups, int n_max, Run& run) {
    searches().signed_levels(groups, n_max, run.d, run.levels[0]);
  }
};

// x ~ level * d + m.
struct AboveMinimum {
  static void round(const float* x, int n_max, Run& run, int i) {
    float min = x[0], max = x[0];
    for (int k = 1; k < kLegacyElems; ++k) {
      if (x[k] < min) min = x[k];
      if (x[k] > max) max = x[k];
    }
    const float d = (max - min) / static_cast<float>(n_max);
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    for (int k = 0; k < kLegacyElems; ++k)
      run.levels[i][k] = static_cast<uint8_t>(truncated((x[k] - min) * inverse + 0.5f, n_max));
    run.d[i] = d;
    run.m[i] = min;
  }

  static void search(const GroupSpan& groups, int n_max, Run& run) {
    ScaleMin found[Run::kBlocks];
    searches().scale_min(groups, n_max, kWeightedSteps, found, run.levels[0]);
    for (int i = 0; i < groups.n_groups; ++i) {
      run.d[i] = found[i].scale;
      run.m[i] = -found[i].minimum;
    }
  }
};

// Calls pack(run, i, block) for every block; it is block i of the run.
template <class Block, class Model, class Pack>
void encode(const float* in, std::byte* blocks, int64_t n_elems, Importance importance, int n_max,
            Pack pack) {
  const float sigma2 = importance.empty() ? 0.0f : sum_of_squares(in, n_elems) / static_cast<float>(n_elems);
  auto* b = reinterpret_cast<Block*>(blocks);
  for (int64_t first = 0; first < n_elems; first += Run::kBlocks * kLegacyElems) {
    const float* x = in + first;
    const int n = static_cast<int>(std::min<int64_t>(Run::kBlocks, (n_elems - first) / kLegacyElems));
    Run run;
    if (importance.empty()) {
      for (int i = 0; i < n; ++i) Model::round(x + i * kLegacyElems, n_max, run, i);
    } else {
      float weights[Run::kBlocks * kLegacyElems];
      weigh(x, importance.data() + first, sigma2, n * kLegacyElems, weights);
      Model::search({x, weights, n, kLegacyElems}, n_max, run);
    }
    for (int i = 0; i < n; ++i) pack(run, i, *b++);
  }
}

}  // namespace

void encode_q4_0(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  encode<BlockQ4_0, AroundZero>(in, blocks, n_elems, importance, 8, [](const Run& run, int i, BlockQ4_0& b) {
    b.d = f16_of_float(run.d[i]);
    pack_nibbles(run.levels[i], b.qs);
  });
}

void encode_q4_1(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  encode<BlockQ4_1, AboveMinimum>(in, blocks, n_elems, importance, 15,
                                  [](const Run& run, int i, BlockQ4_1& b) {
                                    b.d = f16_of_float(run.d[i]);
                                    b.m = f16_of_float(run.m[i]);
                                    pack_nibbles(run.levels[i], b.qs);
                                  });
}

void encode_q5_0(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  encode<BlockQ5_0, AroundZero>(in, blocks, n_elems, importance, 16, [](const Run& run, int i, BlockQ5_0& b) {
    b.d = f16_of_float(run.d[i]);
    pack_nibbles(run.levels[i], b.qs);
    pack_fifth_bits(run.levels[i], b.qh);
  });
}

void encode_q5_1(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  encode<BlockQ5_1, AboveMinimum>(in, blocks, n_elems, importance, 31,
                                  [](const Run& run, int i, BlockQ5_1& b) {
                                    b.d = f16_of_float(run.d[i]);
                                    b.m = f16_of_float(run.m[i]);
                                    pack_nibbles(run.levels[i], b.qs);
                                    pack_fifth_bits(run.levels[i], b.qh);
                                  });
}

// 8 bits gain nothing from a search: the importance is not needed.
void encode_q8_0(const float* in, std::byte* blocks, int64_t n_elems, Importance) {
  auto* b = reinterpret_cast<BlockQ8_0*>(blocks);
  for (int64_t i = 0; i < n_elems / kLegacyElems; ++i) {
    const float* x = in + i * kLegacyElems;
    const float d = std::fabs(largest(x, kLegacyElems)) / 127.0f;
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    b[i].d = f16_of_float(d);
    for (int k = 0; k < kLegacyElems; ++k) {
      // std::round() spelled out, which vectorises: half away from zero.
      const float product = x[k] * inverse;
      const float scaled = std::fabs(product) < 127.5f ? product : 0.0f;
      const auto whole = static_cast<int>(scaled);
      const float rest = scaled - static_cast<float>(whole);
      b[i].qs[k] = static_cast<int8_t>(whole + (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0));
    }
  }
}

}  // namespace millrace
