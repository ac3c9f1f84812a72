// SRC of convert and quantize: a GGUF file or a Hugging Face folder as what a GGUF file is made from.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/hf_import.h"
#include "text/tokenizer_keys.h"

namespace millrace {

enum class SourceTexts { all, none };  // tokenizer and chat template

class Source {
 public:
  // `config` names the file of a folder that holds the hyperparameters. Throws Error(bad_model) as
  // open_gguf() and read_hf_folder() do, and for a tokenizer that GGUF cannot say.
  Source(const std::filesystem::path& path, const std::string& config, SourceTexts texts);

  // Of a folder, tensors that have to be made have no elements.
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  bool is_folder() const { return folder_ != nullptr; }
  // For the file to write: without the keys that say how tensors are stored. Its strings live as long as
  // this.
  const Metadata& metadata() const { return metadata_; }

  // The tensor with its elements, valid until the next call.
  Tensor read(size_t i);

 private:
  void add_folder_entries(const std::filesystem::path& path, SourceTexts texts);
  void add_texts(const std::filesystem::path& folder);

  std::unique_ptr<Checkpoint> checkpoint_;
  HfFolder* folder_ = nullptr;  // checkpoint_, where it is one
  Metadata metadata_;
  std::string name_, template_;  // the metadata points at them
  std::unique_ptr<TokenizerKeys> tokenizer_;
  std::vector<std::byte> made_;
};

}  // namespace millrace
