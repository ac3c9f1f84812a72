// convert: a Hugging Face folder to one GGUF file.
#include "base/log.h"
#include "checkpoint/gguf.h"
#include "cli/loaded_model.h"
#include "cli/progress.h"
#include "cli/verb.h"
#include "model/hf_import.h"

namespace millrace {
namespace {

class Convert final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("SRC", "A Hugging Face folder: config.json and safetensors", source_,
                    Args::Presence::needed);
    args.positional("DST", "The .gguf file to write", destination_, Args::Presence::needed);
    args.option("--config", "The file of the folder that holds the hyperparameters", config_);
  }

  void run() override {
    const std::unique_ptr<Checkpoint> checkpoint = open_hf_directory(source_, config_);
    load_model(*checkpoint);  // what could not be run is not written
    if (std::filesystem::exists(std::filesystem::path(source_) / "tokenizer.json")) {
      log_warning(
          "the tokenizer is not written: keep tokenizer.json beside the file, or run the folder itself");
    }
    ProgressBar progress("converting", checkpoint->n_bytes());
    write_gguf(destination_, *checkpoint, [&](int64_t n_done, int64_t) { progress.advance(n_done); });
  }

 private:
  std::string source_, destination_, config_ = "config.json";
};

}  // namespace

std::unique_ptr<Command> make_convert() { return std::make_unique<Convert>(); }

}  // namespace millrace
