// Hugging Face folders (config.json and safetensors), and those of Mistral AI (params.json and
// consolidated.safetensors), as a checkpoint under GGUF's keys and names.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "checkpoint/checkpoint.h"
#include "checkpoint/progress.h"

namespace millrace {

// What inspecting a folder tells beside its tensors.
struct HfContents {
  std::string quantisation;                      // the method of quantization_config; empty: none
  int64_t n_files = 0;                           // of weights
  int64_t n_tower_tensors = 0, tower_bytes = 0;  // of what reads images or sound, and is left out
};

// Tensors that are the same in both spellings are views of the mapped files. The others (paired q and k,
// stacked experts, quantised weights) are made from them: all at once where the model is to be run, one by
// one where it is to be written.
class HfFolder : public Checkpoint {
 public:
  virtual const HfContents& contents() const = 0;
  // Writes the elements of tensors()[i]: tensors()[i].tensor.n_bytes() bytes.
  virtual void write(size_t i, std::byte* out) const = 0;
  // Makes what is not there yet, in memory of its own, on all cores. `progress` may be empty.
  virtual void make_all(const Progress& progress) = 0;
};

// Understands the folder, without make_all(): a matrix that has to be made has shape and format, and `data`
// is nullptr; load_model() can bind and check it. `config` names the file with the hyperparameters; where the
// folder lacks it or model.safetensors, params.json is read if it is there. Throws Error(bad_model) for a
// model_type that is not known (naming the nearest known one) and for anything in the config that is not
// understood.
std::unique_ptr<HfFolder> read_hf_folder(const std::filesystem::path& folder,
                                         std::string_view config = "config.json");

// The same with everything made: to be run.
std::unique_ptr<HfFolder> open_hf_directory(const std::filesystem::path& folder,
                                            std::string_view config = "config.json",
                                            const Progress& progress = {});

}  // namespace millrace
