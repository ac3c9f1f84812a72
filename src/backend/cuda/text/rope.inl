// Heads normed, rotated and written to their pages: a block a row, a warp a head.
#include "backend/cuda/text/compute.inl"
#include "backend/cuda/text/pages.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int kRopeWarps = 4;

struct RopeArguments {
  Places places;
  const int32_t* rope_tables;
  float* q;
  float* k;
  const float* v;
  int64_t n_heads, n_kv_heads, head_dim, v_head_dim;
  const float* q_norm;
  const float* k_norm;
  int64_t n_q_norm, n_k_norm;
  float norm_eps;
  const float* inv_freq;  // (n_tables, n_pairs)
  int64_t n_tables, n_pairs, rope_begin;
  float magnitude[2];
  bool is_split;
  float q_scale_beta, q_scale_length, q_scale_offset;
  Pages k_pages, v_pages;
};

struct HeadNorm {
  const float* weight;
  int64_t n;
};

// What a block shares: cosines and sines of the pairs, and a head for each warp.
struct RopeShared {
  float* cosines;
  float* sines;
  float* head;

  __device__ explicit RopeShared(const RopeArguments& a)
      : cosines(reinterpret_cast<float*>(shared_memory())),
        sines(cosines + a.n_pairs),
        head(sines + a.n_pairs + warp_index() * a.head_dim) {}
};

// Leaves the result in x, and in shared.head before it is scaled.
__device__ inline void transform_head(const RopeArguments& a, const RopeShared& shared, float* x,
                                      const HeadNorm& norm, float scale) {
  float inverse = 1.0f;
  if (norm.weight != nullptr) {
    float squares = 0.0f;
    for (int64_t i = lane_index(); i < norm.n; i += kWarp) squares = fmaf(x[i], x[i], squares);
    inverse = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(norm.n) + a.norm_eps);
  }
  sync_warp();  // the head before has been read
  for (int64_t i = lane_index(); i < a.head_dim; i += kWarp)
    shared.head[i] = norm.weight != nullptr && i < norm.n ? x[i] * inverse * norm.weight[i] : x[i];
  sync_warp();
  float* rotated = shared.head + a.rope_begin;
  for (int64_t i = lane_index(); i < a.n_pairs; i += kWarp) {
    float& first = rotated[a.is_split ? i : 2 * i];
    float& second = rotated[a.is_split ? i + a.n_pairs : 2 * i + 1];
    const float one = first, two = second;
    first = one * shared.cosines[i] - two * shared.sines[i];
    second = two * shared.cosines[i] + one * shared.sines[i];
  }
  sync_warp();
  for (int64_t i = lane_index(); i < a.head_dim; i += kWarp) x[i] = shared.head[i] * scale;
}

__device__ inline float query_scale(const RopeArguments& a, int64_t position) {
  if (a.q_scale_beta == 0.0f) return 1.0f;
  const double steps = floor((static_cast<double>(position) + a.q_scale_offset) / a.q_scale_length);
  return static_cast<float>(1 + a.q_scale_beta * log(1 + steps));
}

__global__ void rope_kernel(RopeArguments a) {
  const int64_t row = block_x(), seq = a.places.seq_of_row[row], position = a.places.positions[row];
  const RopeShared shared(a);
  if (a.n_pairs > 0) {
    const int64_t table = a.rope_tables[seq];
    require(table >= 0 && table < a.n_tables);
    for (int64_t i = thread_index(); i < a.n_pairs; i += n_threads()) {
      const double angle =
          static_cast<double>(position) * static_cast<double>(a.inv_freq[table * a.n_pairs + i]);
      shared.cosines[i] = static_cast<float>(cos(angle) * static_cast<double>(a.magnitude[table]));
      shared.sines[i] = static_cast<float>(sin(angle) * static_cast<double>(a.magnitude[table]));
    }
  }
  sync_block();
  const float q_scale = query_scale(a, position);
  for (int64_t h = warp_index(); h < a.n_heads; h += kRopeWarps)
    transform_head(a, shared, a.q + (row * a.n_heads + h) * a.head_dim, {a.q_norm, a.n_q_norm}, q_scale);
  if (a.k == nullptr) return;
  for (int64_t h = warp_index(); h < a.n_kv_heads; h += kRopeWarps) {
    transform_head(a, shared, a.k + (row * a.n_kv_heads + h) * a.head_dim, {a.k_norm, a.n_k_norm}, 1.0f);
    if (a.k_pages)
      encode_row(shared.head, a.head_dim, a.k_pages.dtype, page_row(a.k_pages, a.places, seq, position, h));
    if (a.v == nullptr) continue;
    const float* v = a.v + (row * a.n_kv_heads + h) * a.v_head_dim;
    encode_row(v, a.v_head_dim, a.v_pages.dtype, page_row(a.v_pages, a.places, seq, position, h));
  }
}

}  // namespace

void compute(Machine& machine, const RopeStoreKv& op) {
  const Tensor& inv_freq = op.rope.inv_freq;
  const int64_t n_pairs = inv_freq ? inv_freq.dim(1) : 0, head_dim = op.q.dim(2);
  const auto shared_floats = static_cast<size_t>(2 * n_pairs + kRopeWarps * head_dim);
  launch(machine, rope_kernel, {op.batch.n_rows()}, kRopeWarps * kWarp, shared_floats * sizeof(float),
         RopeArguments{.places = Places(op.batch),
                       .rope_tables = op.batch.rope_tables.i32(),
                       .q = op.q.f32(),
                       .k = floats_of(op.k),
                       .v = floats_of(op.v),
                       .n_heads = op.q.dim(1),
                       .n_kv_heads = op.k.dim(1),
                       .head_dim = head_dim,
                       .v_head_dim = op.v.dim(2),
                       .q_norm = floats_of(op.q_norm),
                       .k_norm = floats_of(op.k_norm),
                       .n_q_norm = op.q_norm.n_elems(),
                       .n_k_norm = op.k_norm.n_elems(),
                       .norm_eps = op.norm_eps,
                       .inv_freq = floats_of(inv_freq),
                       .n_tables = inv_freq ? inv_freq.dim(0) : 0,
                       .n_pairs = n_pairs,
                       .rope_begin = op.rope_begin,
                       .magnitude = {op.rope.magnitude[0], op.rope.magnitude[1]},
                       .is_split = op.rope.pairing == RopePairing::half_split,
                       .q_scale_beta = op.q_scale_beta,
                       .q_scale_length = op.q_scale_length,
                       .q_scale_offset = op.q_scale_offset,
                       .k_pages = Pages(op.k_pages),
                       .v_pages = Pages(op.v_pages)});
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
