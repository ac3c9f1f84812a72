// What tells one checkpoint from another without reading all of it.
#pragma once

#include <filesystem>
#include <string>

#include "checkpoint/checkpoint.h"

namespace millrace {

// The same for two checkpoints only where a model computes the same of both: of the metadata without texts of
// the vocabulary, of names, shapes and types of all tensors, of some of the bytes of each, and of sizes and
// times of the files at `path`, so that a file that was written again is another one.
std::string fingerprint_of(const Checkpoint& checkpoint, const std::filesystem::path& path);

}  // namespace millrace
