// The index of a sharded model from anywhere. No name that it lets through leaves the folder.
#include "checkpoint/safetensors/parts.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  try {
    safetensors::MemoryBudget budget;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const safetensors::Index index = safetensors::read_index(text, "fuzzed", budget);
    for (const std::string& shard : index.shards) {
      check(std::filesystem::path(shard).filename() == shard && shard != "..",
            "a shard is a plain file name");
    }
    for (const auto& [name, shard] : index.entries.all()) {
      check(shard < index.shards.size() && index.entries.find(name)->shard == shard,
            "a tensor has its shard");
    }
  } catch (const Error&) {
  }
  return 0;
}
