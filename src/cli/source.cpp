#include "cli/source.h"

#include "base/log.h"
#include "checkpoint/gguf.h"
#include "cli/folder_texts.h"
#include "model/hf/generation_config.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

// Who writes the file says these anew, or not at all.
bool is_about_storage(std::string_view key) {
  return key == "general.file_type" || key == "general.quantization_version" || key.starts_with("split.") ||
         key.starts_with("quantize.");
}

}  // namespace

Source::Source(const fs::path& path, const std::string& config, SourceTexts texts) {
  if (fs::is_directory(path)) {
    std::unique_ptr<HfFolder> folder = read_hf_folder(path, config);
    folder_ = folder.get();
    checkpoint_ = std::move(folder);
  } else {
    checkpoint_ = open_gguf(path);
  }
  for (const auto& [key, value] : checkpoint_->metadata().entries()) {
    const bool is_text = key.starts_with("tokenizer.");
    if (!is_about_storage(key) && (texts == SourceTexts::all || !is_text)) metadata_.add(key, value);
  }
  if (is_folder()) add_folder_entries(path, texts);
}

Tensor Source::read(size_t i) {
  Tensor tensor = checkpoint_->tensors()[i].tensor;
  if (folder_ == nullptr || tensor.data != nullptr) return tensor;
  made_.resize(static_cast<size_t>(tensor.n_bytes()));
  folder_->write(i, made_.data());
  tensor.data = made_.data();
  return tensor;
}

void Source::add_folder_entries(const fs::path& path, SourceTexts texts) {
  name_ = fs::canonical(path).filename().string();
  metadata_.add("general.name", std::string_view(name_));
  if (texts == SourceTexts::all) return add_texts(path);
  metadata_.add("tokenizer.ggml.model", std::string_view("none"));
}

void Source::add_texts(const fs::path& folder) {
  // Tokens are padded to the rows of the embedding; a model without them is refused by load_model().
  const Tensor* embedding = checkpoint_->find("token_embd.weight");
  tokenizer_ = tokenizer_keys_of(folder, embedding == nullptr ? 0 : embedding->dim(0));
  if (tokenizer_ != nullptr) {
    for (const auto& [key, value] : tokenizer_->entries()) metadata_.add(key, value);
    // generation_config.json may name more tokens that end an answer.
    const std::vector<int32_t> ends = generation_end_tokens(folder);
    if (ends.size() > 1)
      metadata_.add("tokenizer.ggml.eos_token_ids", std::vector<int64_t>(ends.begin(), ends.end()));
  } else {
    log_warning("{} has no tokenizer.json, tekken.json or tokenizer.model: the file gets no tokenizer",
                printable(folder.string(), 400));
    metadata_.add("tokenizer.ggml.model", std::string_view("none"));
  }
  if (const auto source = chat_template_of(folder)) {
    template_ = *source;
    metadata_.add("tokenizer.chat_template", std::string_view(template_));
  }
}

}  // namespace millrace
