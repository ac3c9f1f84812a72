// The kernels of AVX-512, and products of many columns on the tiles of AMX.
#if defined(__AMX_BF16__) || defined(__AMXBF16__)  // clang 14 spells it so

#include <initializer_list>

#include "backend/cpu/kernels.h"
#include "backend/cpu/lanes_avx512.h"

namespace millrace::cpu {
namespace {

// clang-format off
#include "backend/cpu/text/formats32.inl"
#include "backend/cpu/text/formats256.inl"
#include "backend/cpu/text/interleaved.inl"
#include "backend/cpu/text/matmul_float.inl"
#include "backend/cpu/text/matmul_quant.inl"
#include "backend/cpu/text/matmul_amx.inl"
#include "backend/cpu/text/matmul_amx32.inl"
#include "backend/cpu/text/matmul_amx_bf16.inl"
#include "backend/cpu/text/math.inl"
#include "backend/cpu/text/quantize.inl"
#include "backend/cpu/text/page_formats.inl"
#include "backend/cpu/text/attention.inl"
#include "backend/cpu/text/attention_amx.inl"
// clang-format on

// With fewer, expanding the weights for tiles takes longer than the tiles save.
template <class F>
constexpr int fewest_columns(bool is_interleaved) {
  if (kIsBlock32<F>) return 13;
  return is_interleaved && Planes<F>::kIsUnsigned ? 7 : 9;
}

template <class Lying>
void multiply_over_tiles(const StripProduct& p) {
  if constexpr (kIsBlock32<typename Lying::Format>)
    multiply_amx32<Lying>(p);
  else
    multiply_amx<Lying>(p);
}

template <class F, size_t kAt>
void put(Kernels& t) {
  t.matmul[kAt].multiply = [](const StripProduct& p) {
    if (p.n_columns < fewest_columns<F>(false)) return avx512_kernels().matmul[kAt].multiply(p);
    multiply_over_tiles<RowByRow<F>>(p);
  };
}

template <class F, size_t kAt>
void put_both(Kernels& t) {
  put<F, kAt>(t);
  t.matmul[kAt].multiply_interleaved = [](const StripProduct& p) {
    if (p.n_columns < fewest_columns<F>(true)) return avx512_kernels().matmul[kAt].multiply_interleaved(p);
    multiply_over_tiles<Interleaved<F>>(p);
  };
}

Kernels make_amx_table() {
  Kernels t = avx512_kernels();
  t.name = "amx";
  t.reads_near = false;  // measured on Sapphire Rapids; those without tiles, on Zen 4
  put_both<Q4_0, kMatmulQ4_0>(t);
  put_both<Q4_1, kMatmulQ4_1>(t);
  put_both<Q5_0, kMatmulQ5_0>(t);
  put_both<Q5_1, kMatmulQ5_1>(t);
  put_both<Q8_0, kMatmulQ8_0>(t);
  put_both<Q2K, kMatmulQ2K>(t);
  put_both<Q3K, kMatmulQ3K>(t);
  put_both<Q4K, kMatmulQ4K>(t);
  put_both<Q5K, kMatmulQ5K>(t);
  put_both<Q6K, kMatmulQ6K>(t);
  put_both<Iq4Nl, kMatmulIq4Nl>(t);
  put_both<Iq4Xs, kMatmulIq4Xs>(t);
  put_both<Mxfp4, kMatmulMxfp4>(t);
  put<Q4Z, kMatmulQ4Z>(t);
  put<Q8Z, kMatmulQ8Z>(t);
  t.matmul[kMatmulBf16] = {.input = InputKind::bf16_pairs,
                           .multiply = multiply_bf16<false>,
                           .multiply_interleaved = multiply_bf16<true>,
                           .interleave = interleave_bf16,
                           .take_row = take_row_bf16};
  t.reads_pairs = true;
  t.split_bf16 = split_bf16;
  t.pages[1].attend = attend_amx<F16>;
  t.pages[2].attend = attend_amx<BF16>;
  t.pages[4].attend = attend_amx<PageQ4_0>;
  t.pages[8].attend = attend_amx<PageQ8_0>;
  for (const int i : {1, 2, 4, 8}) t.pages[i].lay_out_queries = lay_out_query_tiles;
  return t;
}

}  // namespace

const Kernels& amx_kernels() {
  static const Kernels kTable = make_amx_table();
  return kTable;
}

}  // namespace millrace::cpu

#endif
