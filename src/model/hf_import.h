// Hugging Face folders (config.json and safetensors) as a checkpoint under GGUF's keys and names.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "checkpoint/checkpoint.h"

namespace millrace {

// Tensors that are the same in both spellings are views of the mapped files. The others (paired q and k,
// stacked experts) are made from them: all at once where the model is to be run, one by one where it is to be
// written.
class HfFolder : public Checkpoint {
 public:
  // Writes the elements of tensors()[i]: tensors()[i].tensor.n_bytes() bytes.
  virtual void write(size_t i, std::byte* out) const = 0;
  // Makes what is not there yet, in memory of its own.
  virtual void make_all() = 0;
};

// Understands the folder, without make_all(): a matrix that has to be made has shape and format, and `data`
// is nullptr; load_model() can bind and check it. `config` names the file with the hyperparameters. Throws
// Error(bad_model) for a model_type that is not known (naming the nearest known one) and for anything in the
// config that is not understood.
std::unique_ptr<HfFolder> read_hf_folder(const std::filesystem::path& folder,
                                         std::string_view config = "config.json");

// The same with everything made: to be run.
std::unique_ptr<Checkpoint> open_hf_directory(const std::filesystem::path& folder,
                                              std::string_view config = "config.json");

}  // namespace millrace
