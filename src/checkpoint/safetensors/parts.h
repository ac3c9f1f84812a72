// The JSON texts of safetensors models, as they are read. Internal to this folder.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"

namespace millrace::safetensors {

// Bytes that the tensor list of a model may take: some 200,000 tensors. Counted as it is made.
class MemoryBudget {
 public:
  // Throws Error(bad_model), naming `file`, when it is spent.
  void take(uint64_t n_bytes, std::string_view file);

 private:
  static constexpr uint64_t kLimit = 48u << 20;
  uint64_t n_left_ = kLimit;
};

// The tensors of one file, views into it. Names may repeat: NamedList refuses that, also across shards.
std::vector<SafetensorsTensor> read_file(std::span<const std::byte> file, std::string_view name,
                                         MemoryBudget& budget);

struct Index {
  struct Entry {
    std::string name;  // of a tensor
    uint32_t shard;    // index into `shards`
  };
  std::vector<std::string> shards;  // plain file names, each once
  NamedList<Entry> entries;
};

// Of a file model.safetensors.index.json.
Index read_index(std::string_view text, std::string_view name, MemoryBudget& budget);

}  // namespace millrace::safetensors
