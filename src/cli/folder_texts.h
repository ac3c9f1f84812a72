// What a Hugging Face folder says about texts beside its tokenizer: the chat template and the special tokens.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_keys.h"

namespace millrace {

// A JSON file of a model folder. Throws Error(bad_model).
Json read_json_file(const std::filesystem::path& path);

// chat_template.jinja, else chat_template.json, else what tokenizer_config.json holds (of several, the one
// named "default"); nothing where there is none.
std::optional<std::string> chat_template_of(const std::filesystem::path& folder);

// The tokenizer of a folder: of its tokenizer.json, else tekken.json, else tokenizer.model; nullptr where it
// has none. The last two are kept as keys of GGUF, padded to n_vocab tokens (0: as many as they are).
struct FolderTokenizer {
  std::unique_ptr<TokenizerKeys> keys;  // what the tokenizer's strings lie in; nullptr for tokenizer.json
  std::unique_ptr<Metadata> metadata;
  std::unique_ptr<Tokenizer> tokenizer;
};
FolderTokenizer load_folder_tokenizer(const std::filesystem::path& folder, int64_t n_vocab = 0);
// The same as keys of GGUF; nullptr where the folder has none.
std::unique_ptr<TokenizerKeys> tokenizer_keys_of(const std::filesystem::path& folder, int64_t n_vocab);

// The texts of the special tokens by their names for a template: {"bos_token": "<s>", ...}.
Json::Object special_tokens_of(const std::filesystem::path& folder);

}  // namespace millrace
