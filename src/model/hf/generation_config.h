// generation_config.json: how the publisher recommends to draw tokens, and which ones end an answer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace millrace {

// Adds the recommendations as general.sampling.* keys; nothing where the folder has no such file. Throws
// Error(bad_model) for values that make no sense.
void add_generation_config(const std::filesystem::path& folder, Metadata& metadata);

// eos_token_id of the file, one or several; empty where it has none.
std::vector<int32_t> generation_end_tokens(const std::filesystem::path& folder);

}  // namespace millrace
