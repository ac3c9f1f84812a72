// Hugging Face directories (config.json and safetensors) as a checkpoint under GGUF's keys and names.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "checkpoint/checkpoint.h"

namespace millrace {

// Tensors that are the same in both spellings are views of the mapped files; the others (paired q and k,
// stacked experts, norms) are made when the directory is opened and need memory of their own. `config` names
// the file with the hyperparameters. Throws Error(bad_model) for a model_type that is not known (naming the
// nearest known one) and for anything in the config that is not understood.
std::unique_ptr<Checkpoint> open_hf_directory(const std::filesystem::path& directory,
                                              std::string_view config = "config.json");

}  // namespace millrace
