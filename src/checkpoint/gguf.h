// GGUF files: opened (mapped, every claim checked) and written.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "checkpoint/checkpoint.h"
#include "checkpoint/progress.h"

namespace millrace {

// Maps the file and reads its metadata and tensor list, in time that does not depend on the size of the
// tensors. Of a split model, `path` is the first file (…-00001-of-00003.gguf); the others are found beside
// it. Throws Error(bad_model) with what was expected, what was found and where, for anything that is not a
// sound GGUF file of version 2 or 3. Tensors and strings live as long as the checkpoint.
std::unique_ptr<Checkpoint> open_gguf(const std::filesystem::path& path);

// The same of one file's bytes, which must outlive the checkpoint. `name` stands for the file in messages.
std::unique_ptr<Checkpoint> parse_gguf(std::span<const std::byte> file, std::string_view name);

// Lends the bytes of tensor `i`, valid until the next call. Called once for each tensor, in order, just
// before they are written, so that a conversion holds one tensor at a time.
using TensorBytes = std::function<std::span<const std::byte>(size_t i)>;

struct GgufToWrite {
  const Metadata& metadata;              // without split.* keys: one file is written
  std::span<const NamedTensor> tensors;  // what `data` points to is not read
  TensorBytes bytes_of;
};

// Writes a GGUF file of version 3; the old file stays until the new one is whole. Throws Error(does_not_fit)
// when the disk is too small, Error(runtime) when writing fails. `progress` may be empty.
void write_gguf(const std::filesystem::path& path, const GgufToWrite& model, const Progress& progress = {});
void write_gguf(const std::filesystem::path& path, const Checkpoint& checkpoint,
                const Progress& progress = {});

}  // namespace millrace
