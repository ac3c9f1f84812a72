// The table of one instruction set, made of the texts before it.
template <class... F>
constexpr void add_activations(Kernels& t) {
  static_assert(sizeof...(F) == kNActivations);
  int i = 0;
  ((t.activate[i] = activate_row<F>, t.gate[i] = gate_row<F>, ++i), ...);
}

constexpr Kernels make_table(const char* name) {
  Kernels t = {};
  t.name = name;
  t.n_lanes = kLanes;
  t.reads_near = kReadsNear;
  Matmul* matmul = t.matmul;  // in the order of Dtype; int32 stays empty
  *matmul++ = float_matmul<F32>();
  *matmul++ = float_matmul<F16>();
  *matmul++ = float_matmul<BF16>();
  ++matmul;
  *matmul++ = quant_matmul<Q4_0>();
  *matmul++ = quant_matmul<Q4_1>();
  *matmul++ = quant_matmul<Q5_0>();
  *matmul++ = quant_matmul<Q5_1>();
  *matmul++ = quant_matmul<Q8_0>();
  *matmul++ = quant_matmul<Q2K>();
  *matmul++ = quant_matmul<Q3K>();
  *matmul++ = quant_matmul<Q4K>();
  *matmul++ = quant_matmul<Q5K>();
  *matmul++ = quant_matmul<Q6K>();
  *matmul++ = quant_matmul<Iq4Nl>();
  *matmul++ = quant_matmul<Iq4Xs>();
  *matmul++ = quant_matmul<Mxfp4>();
  *matmul++ = float_matmul<F8E4M3>();
  *matmul++ = float_matmul<Nvfp4>();
  *matmul++ = quant_matmul_row_by_row<Q4Z>();
  *matmul++ = quant_matmul_row_by_row<Q8Z>();
  t.quantize32 = quantize32_span;
  t.quantize256 = quantize256_span;
  t.rms_norm = rms_norm_row;
  t.layer_norm = layer_norm_row;
  t.cutoff = cutoff_row;
  t.mean_square = mean_square_row;
  t.cut = cut_row;
  t.stream = stream_row;
  t.finish_streams = finish_streams;
  t.add = add_row;
  t.scale = scale_row;
  t.weighted_add = weighted_add_row;
  t.softcap = softcap_row;
  add_activations<None, Silu, Sigmoid, GeluTanh, GeluErf, QuickGelu>(t);
  t.exp = exp_row;
  t.rotate_halves = rotate_halves_row;
  t.pages[0] = {store_row<F32>, attend<F32>, nullptr, index_scores<F32>};
  t.pages[1] = {store_row<F16>, attend<F16>, nullptr, index_scores<F16>};
  t.pages[2] = {store_row<BF16>, attend<BF16>, nullptr, index_scores<BF16>};
  t.pages[4] = {store_blocks<PageQ4_0>, attend<PageQ4_0>, nullptr, index_scores<PageQ4_0>};
  t.pages[8] = {store_blocks<PageQ8_0>, attend<PageQ8_0>, nullptr, index_scores<PageQ8_0>};
  t.join = join_blocks;
  t.convolve = convolve_row;
  t.delta_rule = delta_rule_row;
  return t;
}
