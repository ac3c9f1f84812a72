// Memory for what the layers of a model keep, each where Memory::of_layer() has it.
#pragma once

#include <algorithm>
#include <vector>

#include "tensor/arena.h"

namespace millrace {

// A buffer in each memory that layers have theirs in, as large as what `take(layer, arena)` takes for those.
template <class Take>
std::vector<Buffer> allocate_layers(Memory& memory, size_t n_layers, const Take& take) {
  std::vector<Memory*> parts;
  for (size_t i = 0; i < n_layers; ++i) {
    Memory* const part = &memory.of_layer(static_cast<int64_t>(i));
    if (std::ranges::find(parts, part) == parts.end()) parts.push_back(part);
  }
  std::vector<Buffer> buffers;
  for (Memory* part : parts) {
    const auto take_all = [&](Arena& arena) {
      for (size_t i = 0; i < n_layers; ++i) {
        if (&memory.of_layer(static_cast<int64_t>(i)) == part) take(i, arena);
      }
    };
    Arena measuring;
    take_all(measuring);
    const Buffer& buffer = buffers.emplace_back(measuring.used_bytes(), *part);
    Arena arena(buffer.data(), buffer.n_bytes());
    take_all(arena);
  }
  return buffers;
}

inline size_t n_bytes_of(const std::vector<Buffer>& buffers) {
  size_t n_bytes = 0;
  for (const Buffer& buffer : buffers) n_bytes += buffer.n_bytes();
  return n_bytes;
}

}  // namespace millrace
