// Where keys and values lie: for each layer one tensor of pages for K and one for V. Pages are numbers to
// everyone else (page_pool.h, radix_tree.h); only ops look inside. Of layers and sides with a window panes
// are the pages: fewer, with numbers of their own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/buffer.h"
#include "tensor/tensor.h"

namespace millrace {

// Vectors that a layer keeps beside keys and values, one for each `stride` positions: keys of an indexer, for
// instance.
struct KvSide {
  int64_t width;
  int64_t stride = 1;
  int64_t window = 0;  // as of a layer
};

// What one layer keeps for each position.
struct KvLayer {
  int64_t n_kv_heads;
  int64_t k_head_dim;
  int64_t v_head_dim;  // 0: values are part of the keys (latent attention)
  std::vector<KvSide> sides = {};
  int64_t window = 0;  // positions that a row reads, the last of them its own; 0: all before it
};

struct KvPages {
  Tensor k;                   // (n_pages, n_kv_heads, page_size, k_head_dim)
  Tensor v;                   // (n_pages, n_kv_heads, page_size, v_head_dim); empty where v_head_dim is 0
  std::vector<Tensor> sides;  // (n_pages, 1, page_size / stride, width) each; a long stride: 1 a page
  bool are_panes = false;     // k and v: of Batch::pane_tables
};

// The longest window of any of them and their sides; 0 where none has one.
int64_t longest_window(std::span<const KvLayer> layers);

class KvCache {
 public:
  struct Shape {
    std::vector<KvLayer> layers;
    int64_t n_pages;
    int64_t page_size;  // positions a page
    Dtype dtype;        // of page_types()
    int64_t n_panes = 0;
  };

  // Bytes that a cache of that shape allocates, exactly. Throws Error(usage) where vectors of a layer are no
  // whole blocks of the type.
  static int64_t n_bytes(const Shape& shape);
  // Those of them that lie in a part of `memory`, where it is allocated there.
  static int64_t n_bytes(const Shape& shape, Memory& memory, const Memory& part);
  // Throws as n_bytes() does, and Error(does_not_fit) when the memory cannot be had. `memory` must outlive
  // it.
  explicit KvCache(Shape shape, Memory& memory = program_memory());

  // The contents of a page in what has no window, and of a pane in the rest.
  void copy_page(int32_t from, int32_t to);
  void copy_pane(int32_t from, int32_t to);
  // The memory of a page or a pane, a stretch for each tensor that has any.
  std::vector<std::span<std::byte>> parts_of_page(int32_t page) const;
  std::vector<std::span<std::byte>> parts_of_pane(int32_t pane) const;

  const KvPages& layer(int64_t i) const { return layers_[static_cast<size_t>(i)]; }
  const Shape& shape() const { return shape_; }

 private:
  std::vector<std::span<std::byte>> parts_of(int32_t page, bool is_pane) const;

  Shape shape_;
  Memory& memory_;
  std::vector<Buffer> buffers_;  // of each part of the memory
  std::vector<KvPages> layers_;
};

}  // namespace millrace
