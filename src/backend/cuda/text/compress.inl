// Compressed keys: all rows are stored first, then the rows that end a run make its entry.
#include "backend/cuda/text/compute.inl"
#include "backend/cuda/text/pages.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

struct CompressArguments {
  Places places;
  const float* kv;    // (n_rows, width)
  const float* gate;  // (n_rows, width)
  const std::byte* bias;
  Dtype bias_dtype;
  int64_t bias_row_bytes, width, stride, head_dim;
  const float* norm;
  float norm_eps;
  Pages row_pages, entry_pages;
  const float* inv_freq;
  int64_t n_pairs, rope_begin;
  float magnitude;
};

// A warp a row: both of its parts beside each other, in shared memory, and then in its page.
__global__ void store_rows_kernel(CompressArguments a) {
  const int64_t row = block_x();
  auto* both = reinterpret_cast<float*>(shared_memory());  // (2 * width)
  for (int64_t i = lane_index(); i < a.width; i += kWarp) {
    both[i] = a.kv[row * a.width + i];
    both[a.width + i] = a.gate[row * a.width + i];
  }
  sync_warp();
  std::byte* to = page_row(a.row_pages, a.places, a.places.seq_of_row[row], a.places.positions[row], 0);
  encode_row(both, 2 * a.width, a.row_pages.dtype, to);
}

// Calls take(kv, logits), eight dimensions from `first` on, for each row that entry `entry` mixes.
template <class Take>
__device__ inline void for_each_part(const CompressArguments& a, int64_t seq, int64_t entry, int64_t first,
                                     const Take& take) {
  const bool has_halves = a.width > a.head_dim;
  for (int64_t run = has_halves && entry > 0 ? entry - 1 : entry; run <= entry; ++run) {
    const int64_t at = first + (has_halves && run == entry ? a.head_dim : 0);
    for (int64_t i = 0; i < a.stride; ++i) {
      const std::byte* row = page_row(a.row_pages, a.places, seq, run * a.stride + i, 0);
      Eight kv, logits, bias;
      decode_any(a.row_pages.dtype, row, at, 2 * a.width, kv);
      decode_any(a.row_pages.dtype, row, a.width + at, 2 * a.width, logits);
      decode_any(a.bias_dtype, a.bias + i * a.bias_row_bytes, at, a.width, bias);
      for (int j = 0; j < 8; ++j) logits[j] += bias[j];
      take(kv, logits);
    }
  }
}

// The mean of each dimension, eight a lane.
__device__ inline void mix_rows(const CompressArguments& a, int64_t seq, int64_t number, float* entry) {
  for (int64_t first = 8 * lane_index(); first < a.head_dim; first += 8 * kWarp) {
    Eight largest, sums = {}, weighted = {};
    for (int j = 0; j < 8; ++j) largest[j] = -kInfinity;
    for_each_part(a, seq, number, first, [&](const Eight&, const Eight& logits) {
      for (int j = 0; j < 8; ++j) largest[j] = most(largest[j], logits[j]);
    });
    for_each_part(a, seq, number, first, [&](const Eight& kv, const Eight& logits) {
      for (int j = 0; j < 8; ++j) {
        const float weight = expf(logits[j] - largest[j]);
        sums[j] += weight;
        weighted[j] = fmaf(weight, kv[j], weighted[j]);
      }
    });
    for (int64_t j = 0; j < least<int64_t>(8, a.head_dim - first); ++j)
      entry[first + j] = weighted[j] / sums[j];
  }
  sync_warp();
}

__device__ inline void norm_and_rotate(const CompressArguments& a, int64_t position, float* entry) {
  float squares = 0.0f;
  for (int64_t i = lane_index(); i < a.head_dim; i += kWarp) squares = fmaf(entry[i], entry[i], squares);
  const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(a.head_dim) + a.norm_eps);
  for (int64_t i = lane_index(); a.norm != nullptr && i < a.head_dim; i += kWarp)
    entry[i] *= scale * a.norm[i];
  sync_warp();
  for (int64_t i = lane_index(); i < a.n_pairs; i += kWarp) {
    const double angle = static_cast<double>(position) * static_cast<double>(a.inv_freq[i]);
    const auto cosine = static_cast<float>(cos(angle) * static_cast<double>(a.magnitude));
    const auto sine = static_cast<float>(sin(angle) * static_cast<double>(a.magnitude));
    float* pair = entry + a.rope_begin + 2 * i;
    const float one = pair[0], two = pair[1];
    pair[0] = one * cosine - two * sine;
    pair[1] = two * cosine + one * sine;
  }
  sync_warp();
}

// A warp a row.
__global__ void make_entries_kernel(CompressArguments a) {
  const int64_t row = block_x(), seq = a.places.seq_of_row[row], n_past = a.places.positions[row] + 1;
  if (n_past % a.stride != 0) return;
  const int64_t number = n_past / a.stride - 1;
  auto* entry = reinterpret_cast<float*>(shared_memory());  // (head_dim)
  mix_rows(a, seq, number, entry);
  norm_and_rotate(a, number * a.stride, entry);
  std::byte* to = entry_row(a.entry_pages, a.places, seq, number, a.stride, a.row_pages.page_size);
  encode_row(entry, a.head_dim, a.entry_pages.dtype, to);
}

}  // namespace

void compute(Machine& machine, const CompressKv& op) {
  const int64_t width = op.kv.dim(1), head_dim = op.entry_pages.dim(3), n_rows = op.batch.n_rows();
  const CompressArguments arguments{.places = Places(op.batch),
                                    .kv = op.kv.f32(),
                                    .gate = op.gate.f32(),
                                    .bias = op.bias.data,
                                    .bias_dtype = op.bias.dtype,
                                    .bias_row_bytes = op.bias.row_bytes(),
                                    .width = width,
                                    .stride = op.bias.dim(0),
                                    .head_dim = head_dim,
                                    .norm = floats_of(op.norm),
                                    .norm_eps = op.norm_eps,
                                    .row_pages = Pages(op.row_pages),
                                    .entry_pages = Pages(op.entry_pages),
                                    .inv_freq = floats_of(op.rope.inv_freq),
                                    .n_pairs = op.rope.inv_freq ? op.rope.inv_freq.dim(1) : 0,
                                    .rope_begin = op.rope_begin,
                                    .magnitude = op.rope.magnitude[0]};
  launch(machine, store_rows_kernel, {n_rows}, kWarp, static_cast<size_t>(2 * width) * sizeof(float),
         arguments);
  launch(machine, make_entries_kernel, {n_rows}, kWarp, static_cast<size_t>(head_dim) * sizeof(float),
         arguments);
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
