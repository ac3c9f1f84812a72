// Safetensors files, alone or as the shards of a model: raw tensors under the names that their publisher gave
// them. What those names mean in a model is not known here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "checkpoint/named_list.h"

namespace millrace {

struct SafetensorsTensor {
  std::string name;
  std::string_view dtype;            // as the format spells it: "BF16", "F8_E4M3"; static memory
  std::vector<int64_t> shape;        // outermost first, at most 8 dimensions; empty for a scalar
  std::span<const std::byte> bytes;  // row-major, little-endian, of any alignment
};

// Checks all that the format demands, in time and memory that do not depend on the size of the tensors.
// `name` stands for the file in messages. Throws Error(bad_model). The tensors are views into `file`.
NamedList<SafetensorsTensor> parse_safetensors(std::span<const std::byte> file, std::string_view name);

// A mapped model.
class SafetensorsModel {
 public:
  // `path` is a .safetensors file, an index (….safetensors.index.json) whose shards lie beside it, or a
  // folder with model.safetensors or its index. Throws Error(bad_model).
  explicit SafetensorsModel(const std::filesystem::path& path);

  std::span<const SafetensorsTensor> tensors() const { return tensors_.all(); }
  const NamedList<SafetensorsTensor>& list() const { return tensors_; }
  int64_t n_files() const { return static_cast<int64_t>(files_.size()); }
  std::vector<std::span<const std::byte>> mapped_files() const { return bytes_of(files_); }
  // The tensor of that name, or nullptr.
  const SafetensorsTensor* find(std::string_view name) const { return tensors_.find(name); }

 private:
  std::vector<MappedFile> files_;
  NamedList<SafetensorsTensor> tensors_;
};

}  // namespace millrace
