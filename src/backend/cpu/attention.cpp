// Rotary positions, keys and values into their pages, and attention over them.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/compute.h"

namespace millrace::cpu {
namespace {

static_assert(kBlockPositions == kAttentionBlock);

std::byte* page_row(const Tensor& pages, const Batch& batch, int64_t seq, int64_t position, int64_t head) {
  const int64_t page_size = pages.dim(2);
  const int32_t page = batch.page_tables.i32()[seq * batch.page_tables.dim(1) + position / page_size];
  check(page >= 0 && page < pages.dim(0), "a position without a page");
  return pages.row((page * pages.dim(1) + head) * page_size + position % page_size);
}

struct Angles {
  float* cosines;
  float* sines;
  int64_t n_pairs;
};

Angles angles_of(ThreadScratch& scratch, const Rope& rope, int64_t position, int32_t table) {
  Angles angles{.n_pairs = rope.inv_freq ? rope.inv_freq.dim(1) : 0};
  angles.cosines = scratch.floats.take(2 * angles.n_pairs);
  angles.sines = angles.cosines + angles.n_pairs;
  for (int64_t i = 0; i < angles.n_pairs; ++i) {
    const double angle =
        static_cast<double>(position) * static_cast<double>(rope.inv_freq.f32()[table * angles.n_pairs + i]);
    angles.cosines[i] = static_cast<float>(std::cos(angle) * static_cast<double>(rope.magnitude[table]));
    angles.sines[i] = static_cast<float>(std::sin(angle) * static_cast<double>(rope.magnitude[table]));
  }
  return angles;
}

void rotate(const Context& context, const Angles& angles, RopePairing pairing, float* head) {
  if (pairing == RopePairing::half_split)
    return context.kernels.rotate_halves(head, angles.cosines, angles.sines, angles.n_pairs);
  for (int64_t i = 0; i < angles.n_pairs; ++i) {
    const float a = head[2 * i], b = head[2 * i + 1];
    head[2 * i] = a * angles.cosines[i] - b * angles.sines[i];
    head[2 * i + 1] = b * angles.cosines[i] + a * angles.sines[i];
  }
}

float query_scale(const RopeStoreKv& op, int64_t position) {
  if (op.q_scale_beta == 0.0f) return 1.0f;
  const double steps = std::floor((static_cast<double>(position) + op.q_scale_offset) / op.q_scale_length);
  return static_cast<float>(1.0 + op.q_scale_beta * std::log(1.0 + steps));
}

// Norms and rotates the heads of row r of x (n_rows, n_heads, head_dim).
void turn_heads(const Context& context, const RopeStoreKv& op, const Tensor& x, const Tensor& norm, int64_t r,
                const Angles& angles) {
  const int64_t head_dim = x.dim(2);
  for (int64_t h = 0; h < x.dim(1); ++h) {
    float* head = x.f32() + (r * x.dim(1) + h) * head_dim;
    if (norm)
      context.kernels.norm({.x = head, .weight = norm.f32(), .out = head, .n = head_dim, .eps = op.norm_eps});
    rotate(context, angles, op.rope.pairing, head);
  }
}

void store_heads(const Context& context, const RopeStoreKv& op, const Tensor& x, const Tensor& pages,
                 int64_t r, int64_t position) {
  const auto store = context.kernels.store[static_cast<int>(pages.dtype)];
  const int64_t seq = op.batch.seq_of_row.i32()[r];
  for (int64_t h = 0; h < x.dim(1); ++h) {
    store(x.f32() + (r * x.dim(1) + h) * x.dim(2), page_row(pages, op.batch, seq, position, h), x.dim(2));
  }
}

// Rows of a task: queries of one sequence that go through the blocks together.
constexpr int64_t kRowsPerTask = 16;

// What one task of attention computes: rows [begin, end) of one sequence, the query heads of one key-value
// head.
struct AttentionTask {
  int64_t seq, kv_head, begin, end;
};

struct Ranges {
  int32_t* begin;
  int32_t* end;
};

// Which positions of the block that starts at `block` each query sees.
void see(const PagedAttention& op, const AttentionTask& task, int64_t block, int64_t n_shared,
         const Ranges& ranges) {
  for (int64_t q = 0; q < (task.end - task.begin) * n_shared; ++q) {
    const int64_t position = op.batch.positions.i32()[task.begin + q / n_shared];
    const int64_t first = op.window > 0 ? std::max<int64_t>(0, position - op.window + 1) : 0;
    ranges.begin[q] = static_cast<int32_t>(std::clamp<int64_t>(first - block, 0, kAttentionBlock));
    ranges.end[q] = static_cast<int32_t>(std::clamp<int64_t>(position + 1 - block, 0, kAttentionBlock));
  }
}

class Attend {
 public:
  Attend(Context& context, const PagedAttention& op, const AttentionTask& task, int thread)
      : context_(context),
        op_(op),
        task_(task),
        n_shared_(op.q.dim(1) / op.k_pages.dim(1)),
        n_queries_((task.end - task.begin) * n_shared_),
        k_dim_(op.k_pages.dim(3)),
        v_dim_(op.v_pages.dim(3)) {
    ThreadScratch& scratch = context.threads[static_cast<size_t>(thread)];
    floats_ = scratch.floats.take(kAttentionBlock * (k_dim_ + v_dim_ + 1) + n_queries_ * (4 + v_dim_) + 64);
    ints_ = scratch.ints.take(2 * n_queries_);
    pointers_ = scratch.pointers.take(2 * kAttentionBlock + n_queries_);
  }

  void run() {
    float* max = state();
    float* sum = max + n_queries_;
    std::fill(max, max + n_queries_, -std::numeric_limits<float>::infinity());
    std::fill(sum, sum + n_queries_, 0.0f);
    const int32_t* positions = op_.batch.positions.i32();
    const int64_t oldest = op_.window > 0 ? std::max<int64_t>(0, positions[task_.begin] - op_.window + 1) : 0;
    const int64_t last = positions[task_.end - 1];
    for (int64_t block = oldest / kAttentionBlock * kAttentionBlock; block <= last;
         block += kAttentionBlock) {
      add_block(block, std::max<int64_t>(0, oldest - block),
                std::min<int64_t>(kAttentionBlock, last + 1 - block));
    }
    for (int64_t q = 0; q < n_queries_; ++q) context_.kernels.scale(out_of(q), 1.0f / sum[q], v_dim_);
  }

 private:
  float* state() const { return floats_ + kAttentionBlock * (k_dim_ + v_dim_ + 1); }
  int64_t head_of(int64_t q) const { return task_.kv_head * n_shared_ + q % n_shared_; }
  int64_t row_of(int64_t q) const { return task_.begin + q / n_shared_; }
  float* out_of(int64_t q) const {
    return op_.out.f32() + (row_of(q) * op_.out.dim(1) + head_of(q)) * v_dim_;
  }

  void add_block(int64_t block, int64_t first, int64_t n_positions) {
    float* max = state();
    float* sum = max + n_queries_;
    float* block_max = sum + n_queries_;
    float* block_sum = block_max + n_queries_;
    float* block_out = block_sum + n_queries_;
    const std::byte** k_rows = pointers_;
    const std::byte** v_rows = k_rows + kAttentionBlock;
    const auto** queries = reinterpret_cast<const float**>(v_rows + kAttentionBlock);
    for (int64_t j = 0; j < n_positions; ++j) {
      const int64_t position =
          block + std::max(j, first);  // those before the window are masked: any row will do
      k_rows[j] = page_row(op_.k_pages, op_.batch, task_.seq, position, task_.kv_head);
      v_rows[j] = page_row(op_.v_pages, op_.batch, task_.seq, position, task_.kv_head);
    }
    const Ranges ranges{ints_, ints_ + n_queries_};
    see(op_, task_, block, n_shared_, ranges);
    for (int64_t q = 0; q < n_queries_; ++q)
      queries[q] = op_.q.f32() + (row_of(q) * op_.q.dim(1) + head_of(q)) * k_dim_;
    context_.kernels.attend[static_cast<int>(op_.k_pages.dtype)](
        {.head_dim = static_cast<int>(k_dim_),
         .v_head_dim = static_cast<int>(v_dim_),
         .n_positions = static_cast<int>(n_positions),
         .k_rows = k_rows,
         .v_rows = v_rows,
         .n_queries = static_cast<int>(n_queries_),
         .queries = queries,
         .begin = ranges.begin,
         .end = ranges.end,
         .scale = op_.scale,
         .softcap = op_.softcap,
         .k_panel = floats_,
         .v_panel = floats_ + kAttentionBlock * k_dim_,
         .scores = floats_ + kAttentionBlock * (k_dim_ + v_dim_),
         .max = block_max,
         .sum = block_sum,
         .out = block_out});
    for (int64_t q = 0; q < n_queries_; ++q) {
      if (ranges.begin[q] >= ranges.end[q]) continue;
      if (sum[q] == 0.0f) {  // the first block of this query
        max[q] = block_max[q];
        sum[q] = block_sum[q];
        std::copy_n(block_out + q * v_dim_, v_dim_, out_of(q));
      } else {
        context_.kernels.join({.max = max + q,
                               .sum = sum + q,
                               .out = out_of(q),
                               .block_max = block_max[q],
                               .block_sum = block_sum[q],
                               .block_out = block_out + q * v_dim_,
                               .v_head_dim = static_cast<int>(v_dim_)});
      }
    }
  }

  Context& context_;
  const PagedAttention& op_;
  AttentionTask task_;
  int64_t n_shared_, n_queries_, k_dim_, v_dim_;
  float*
      floats_;  // key panel, value panel, scores, then max, sum and the same of a block, the block's values
  int32_t* ints_;  // begin and end of what each query sees
  const std::byte** pointers_;
};

}  // namespace

void compute(Context& context, const RopeStoreKv& op) {
  context.pool.run(static_cast<int>(op.batch.n_rows()), [&](int r, int thread) {
    const int64_t position = op.batch.positions.i32()[r];
    const int32_t table = op.batch.rope_tables.i32()[op.batch.seq_of_row.i32()[r]];
    const Angles angles = angles_of(context.threads[static_cast<size_t>(thread)], op.rope, position, table);
    turn_heads(context, op, op.q, op.q_norm, r, angles);
    turn_heads(context, op, op.k, op.k_norm, r, angles);
    const float scale = query_scale(op, position);
    if (scale != 1.0f)
      context.kernels.scale(op.q.f32() + r * op.q.dim(1) * op.q.dim(2), scale, op.q.dim(1) * op.q.dim(2));
    store_heads(context, op, op.k, op.k_pages, r, position);
    store_heads(context, op, op.v, op.v_pages, r, position);
  });
}

void compute(Context& context, const PagedAttention& op) {
  std::vector<AttentionTask> tasks;
  for (int64_t seq = 0; seq < op.batch.n_seqs(); ++seq) {
    const int64_t first = op.batch.row_begin.i32()[seq], last = op.batch.row_begin.i32()[seq + 1];
    for (int64_t begin = first; begin < last; begin += kRowsPerTask) {
      for (int64_t head = 0; head < op.k_pages.dim(1); ++head) {
        tasks.push_back(
            {.seq = seq, .kv_head = head, .begin = begin, .end = std::min(last, begin + kRowsPerTask)});
      }
    }
  }
  context.pool.run(static_cast<int>(tasks.size()), [&](int i, int thread) {
    Attend(context, op, tasks[static_cast<size_t>(i)], thread).run();
  });
}

}  // namespace millrace::cpu
