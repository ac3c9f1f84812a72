// The two parts of a GGUF file after its header, as they are read. Internal to this folder.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf/byte_reader.h"

namespace millrace::gguf {

// Strings are views into the file. What the container itself uses, general.alignment, is checked here.
Metadata read_metadata(ByteReader& in, uint64_t n_entries);

// Memory inside of the file; in the order of the file. Names may repeat: NamedList refuses that, also across
// the files of a split model.
std::vector<NamedTensor> read_tensors(ByteReader& in, uint64_t n_tensors, uint64_t alignment);

}  // namespace millrace::gguf
