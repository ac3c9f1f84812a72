// What recurrent layers keep of a sequence: as much after a million positions as after one. A slot holds the
// state of one sequence, or of a prefix that others may begin with (a snapshot): the same memory, so that a
// snapshot is taken and used without a copy. Slots are numbers to everyone else and counted as pages are
// (page_pool.h); only ops look inside, from Batch::state_from to Batch::state_to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/buffer.h"
#include "tensor/tensor.h"

namespace millrace {

// One layer: a matrix for each value head, and the newest inputs of short convolutions over the projections.
// All zero: the layer is not recurrent.
struct StateLayer {
  int64_t n_v_heads = 0;
  int64_t k_head_dim = 0;
  int64_t v_head_dim = 0;
  int64_t n_kept = 0;   // inputs of a convolution: one less than its taps
  int64_t k_width = 0;  // channels of the queries, and of the keys
  int64_t v_width = 0;  // channels of the values
};

struct LayerState {
  Tensor matrix;                  // (n_slots, n_v_heads, k_head_dim, v_head_dim)
  Tensor conv_q, conv_k, conv_v;  // (n_slots, n_kept, k_width or v_width)
};

class StateCache {
 public:
  struct Shape {
    std::vector<StateLayer> layers;
    int64_t n_slots;
  };

  // Bytes that a cache of that shape allocates, exactly.
  static int64_t n_bytes(const Shape& shape);
  // Those of them that lie in a part of `memory`, where it is allocated there.
  static int64_t n_bytes(const Shape& shape, Memory& memory, const Memory& part);
  // All float32. Throws Error(does_not_fit) when the memory cannot be had. `memory` must outlive it.
  explicit StateCache(Shape shape, Memory& memory = program_memory());

  // The memory of a slot, a stretch for each tensor that has any.
  std::vector<std::span<std::byte>> parts_of(int32_t slot) const;
  const LayerState& layer(int64_t i) const { return layers_[static_cast<size_t>(i)]; }
  const Shape& shape() const { return shape_; }

 private:
  Shape shape_;
  std::vector<Buffer> buffers_;  // of each part of the memory
  std::vector<LayerState> layers_;
};

}  // namespace millrace
