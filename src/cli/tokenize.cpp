// tokenize and detokenize.
#include <unistd.h>

#include <iterator>

#include "base/file.h"
#include "base/json.h"
#include "cli/loaded_model.h"
#include "cli/standard_input.h"
#include "cli/verb.h"

namespace millrace {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;

class Tokenize final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("MODEL", "A .gguf file, a tokenizer.json or a Hugging Face folder", model_,
                    Args::Presence::needed);
    args.positional("TEXT", "The text; standard input where neither it nor --file is given", text_,
                    Args::Presence::optional);
    args.option("-f,--file", "Read the text from this file", file_);
    args.flag("--no-special", "Add no BOS or EOS", has_no_special_);
    args.flag("--parse-special", "Texts of control tokens become those tokens", parses_special_);
    args.flag("--json", "Print {\"ids\":[...],\"pieces\":[...]}", is_json_);
  }

  void run() override {
    const LoadedTokenizer loaded = load_tokenizer_of(model_);
    const std::string text = input();
    const std::vector<int32_t> ids =
        loaded.tokenizer->encode(text, {.add_special = !has_no_special_, .parse_special = parses_special_});
    if (is_json_) {
      print_json(*loaded.tokenizer, ids);
    } else {
      for (const int32_t id : ids) fmt::print("{}\t{}\n", id, printable(loaded.tokenizer->piece(id)));
    }
  }

 private:
  std::string input() const {
    if (file_) return read_file(*file_, kMaxTextBytes, ErrorKind::usage);
    if (!text_.empty()) return text_;
    return is_terminal(STDIN_FILENO) ? std::string() : read_standard_input(kMaxTextBytes);
  }

  static void print_json(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
    Json::Array numbers(ids.begin(), ids.end()), pieces;
    for (const int32_t id : ids) pieces.emplace_back(valid_utf8(tokenizer.piece(id)));
    Json out;
    out["ids"] = std::move(numbers);
    out["pieces"] = std::move(pieces);
    fmt::print("{}\n", out.dump());
  }

  std::string model_, text_;
  std::optional<std::string> file_;
  bool has_no_special_ = false, parses_special_ = false, is_json_ = false;
};

class Detokenize final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("MODEL", "A .gguf file, a tokenizer.json or a Hugging Face folder", model_,
                    Args::Presence::needed);
    args.positional("IDS", "Token ids: 1,2,3", ids_, Args::Presence::needed);
    args.flag("--show-special", "Print control tokens too", shows_special_);
    args.flag("--json", "Print {\"text\":\"...\"}", is_json_);
  }

  void run() override {
    const LoadedTokenizer loaded = load_tokenizer_of(model_);
    const std::vector<int32_t> ids = parse_ids(ids_, "IDS");
    for (const int32_t id : ids) {
      if (id >= loaded.tokenizer->n_vocab()) {
        fail(ErrorKind::usage, "IDS holds {}, the vocabulary has {} tokens", id, loaded.tokenizer->n_vocab());
      }
    }
    const std::string text = loaded.tokenizer->decode(ids, shows_special_);
    if (!is_json_) {
      fmt::print("{}", text);
      return;
    }
    Json out;
    out["text"] = valid_utf8(text);
    fmt::print("{}\n", out.dump());
  }

 private:
  std::string model_, ids_;
  bool shows_special_ = false, is_json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_tokenize() { return std::make_unique<Tokenize>(); }
std::unique_ptr<Command> make_detokenize() { return std::make_unique<Detokenize>(); }

}  // namespace millrace
