// What a Hugging Face folder says about texts beside its tokenizer: the chat template and the special tokens.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/json.h"

namespace millrace {

// A JSON file of a model folder. Throws Error(bad_model).
Json read_json_file(const std::filesystem::path& path);

// chat_template.jinja, else chat_template.json, else what tokenizer_config.json holds (of several, the one
// named "default"); nothing where there is none.
std::optional<std::string> chat_template_of(const std::filesystem::path& folder);

// The texts of the special tokens by their names for a template: {"bos_token": "<s>", ...}.
Json::Object special_tokens_of(const std::filesystem::path& folder);

}  // namespace millrace
