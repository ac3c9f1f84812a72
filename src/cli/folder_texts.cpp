#include "cli/folder_texts.h"

#include "base/file.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxBytes = size_t{256} << 20;
constexpr const char* kSpecialTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                          "pad_token", "cls_token", "mask_token"};

Json config_of(const fs::path& folder) {
  const fs::path path = folder / "tokenizer_config.json";
  return fs::exists(path) ? read_json_file(path) : Json();
}

// A template, or a list of {"name", "template"}.
std::optional<std::string> template_in(const Json& config) {
  const Json* found = config.find("chat_template");
  if (found == nullptr || found->is_null()) return std::nullopt;
  if (!found->is_array()) return found->as_string();
  for (const Json& named : found->as_array()) {
    if (named.at("name").as_string() == "default") return named.at("template").as_string();
  }
  return std::nullopt;
}

}  // namespace

Json read_json_file(const fs::path& path) { return Json::parse(read_file(path, kMaxBytes), path.string()); }

std::optional<std::string> chat_template_of(const fs::path& folder) {
  if (fs::exists(folder / "chat_template.jinja")) return read_file(folder / "chat_template.jinja", kMaxBytes);
  if (fs::exists(folder / "chat_template.json"))
    return template_in(read_json_file(folder / "chat_template.json"));
  return template_in(config_of(folder));
}

namespace {

// Of the files that have no other reader.
std::unique_ptr<TokenizerKeys> other_keys_of(const fs::path& folder, int64_t n_vocab) {
  if (fs::exists(folder / "tekken.json")) return tekken_keys(read_json_file(folder / "tekken.json"), n_vocab);
  if (fs::exists(folder / "tokenizer.model"))
    return sentence_piece_keys(read_file(folder / "tokenizer.model", kMaxBytes), config_of(folder), n_vocab);
  return nullptr;
}

}  // namespace

std::unique_ptr<TokenizerKeys> tokenizer_keys_of(const fs::path& folder, int64_t n_vocab) {
  if (const fs::path path = folder / "tokenizer.json"; fs::exists(path))
    return tokenizer_json_keys(read_json_file(path), config_of(folder), n_vocab);
  return other_keys_of(folder, n_vocab);
}

FolderTokenizer load_folder_tokenizer(const fs::path& folder, int64_t n_vocab) {
  FolderTokenizer loaded;
  if (const fs::path path = folder / "tokenizer.json"; fs::exists(path)) {
    loaded.tokenizer = load_tokenizer_json(read_json_file(path), config_of(folder));
  } else if ((loaded.keys = other_keys_of(folder, n_vocab)) != nullptr) {
    loaded.metadata = std::make_unique<Metadata>(loaded.keys->metadata());
    loaded.tokenizer = load_tokenizer(*loaded.metadata);
  }
  return loaded;
}

Json::Object special_tokens_of(const fs::path& folder) {
  const Json config = config_of(folder);
  Json::Object tokens;
  for (const char* name : kSpecialTokens) {
    const Json* token = config.find(name);
    if (token != nullptr && token->is_object()) token = token->find("content");
    if (token != nullptr && token->is_string()) tokens.emplace_back(name, *token);
  }
  return tokens;
}

}  // namespace millrace
