// GGUF files: opened (mapped, every claim checked) and written.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "checkpoint/checkpoint.h"

namespace millrace {

// Maps the file and reads its metadata and tensor list, in time that does not depend on the size of the
// tensors. Of a split model, `path` is the first file (…-00001-of-00003.gguf); the others are found beside
// it. Throws Error(bad_model) with what was expected, what was found and where, for anything that is not a
// sound GGUF file of version 2 or 3. Tensors and strings live as long as the checkpoint.
std::unique_ptr<Checkpoint> open_gguf(const std::filesystem::path& path);

// The same of one file's bytes, which must outlive the checkpoint. `name` stands for the file in messages.
std::unique_ptr<Checkpoint> parse_gguf(std::span<const std::byte> file, std::string_view name);

}  // namespace millrace
