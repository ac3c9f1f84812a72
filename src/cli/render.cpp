// render: the prompt a chat becomes.
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "cli/folder_texts.h"
#include "cli/loaded_model.h"
#include "cli/standard_input.h"
#include "cli/verb.h"

namespace millrace {
namespace {

constexpr size_t kMaxInputBytes = size_t{64} << 20;

class Render final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("MODEL", "A .gguf file with a chat template, a Hugging Face folder, or a .jinja file",
                    model_, Args::Presence::needed);
    args.option(
        "-i,--input",
        "JSON: messages, tools, add_generation_prompt, special tokens, now, ...; - or none: standard input",
        input_);
  }

  void run() override {
    const bool is_from_input = input_.empty() || input_ == "-";
    const std::string text = is_from_input ? read_standard_input(kMaxInputBytes)
                                           : read_file(input_, kMaxInputBytes, ErrorKind::usage);
    Json variables = Json::parse(text, is_from_input ? "standard input" : input_, ErrorKind::usage);
    if (!variables.is_object())
      fail(ErrorKind::usage, "the input should be a JSON object, found {}", variables.type_name());
    const Json* now = variables.find("now");
    const std::string time = now != nullptr && now->is_string() ? now->as_string() : "";
    fmt::print("{}", ChatTemplate(source(variables)).render(variables, time));
  }

 private:
  // The template; special tokens of a model are added to `variables` where they are missing.
  std::string source(Json& variables) const {
    const std::filesystem::path path = model_;
    if (path.extension() == ".jinja") return read_file(path, kMaxInputBytes);
    return std::filesystem::is_directory(path) ? source_of_folder(path, variables)
                                               : source_of_gguf(path, variables);
  }

  std::string source_of_folder(const std::filesystem::path& path, Json& variables) const {
    const std::optional<std::string> found = chat_template_of(path);
    if (!found) refuse();
    for (const auto& [name, text] : special_tokens_of(path)) add(variables, name, text);
    // Other tokenizers than tokenizer.json know their ends themselves.
    if (!std::filesystem::exists(path / "tokenizer.json")) {
      const FolderTokenizer loaded = load_folder_tokenizer(path);
      if (loaded.tokenizer != nullptr) add_ends(*loaded.tokenizer, variables);
    }
    return *found;
  }

  std::string source_of_gguf(const std::filesystem::path& path, Json& variables) const {
    const std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(path);
    const auto found = checkpoint->metadata().get<std::string_view>("tokenizer.chat_template");
    if (!found) refuse();
    const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(checkpoint->metadata());
    add_ends(*tokenizer, variables);
    return std::string(*found);
  }

  static void add_ends(const Tokenizer& tokenizer, Json& variables) {
    if (const auto bos = tokenizer.bos()) add(variables, "bos_token", tokenizer.piece(*bos));
    if (const auto eos = tokenizer.eos()) add(variables, "eos_token", tokenizer.piece(*eos));
  }

  static void add(Json& variables, std::string_view name, Json text) {
    if (variables.find(name) == nullptr) variables[name] = std::move(text);
  }

  [[noreturn]] void refuse() const {
    fail(ErrorKind::bad_model, "{} has no chat template", printable(model_, 400));
  }

  std::string model_, input_;
};

}  // namespace

std::unique_ptr<Command> make_render() { return std::make_unique<Render>(); }

}  // namespace millrace
