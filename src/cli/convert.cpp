// convert: a Hugging Face folder to one GGUF file, with its tokenizer and chat template.
#include <algorithm>
#include <map>

#include "base/log.h"
#include "checkpoint/gguf.h"
#include "checkpoint/recoder.h"
#include "cli/progress.h"
#include "cli/source.h"
#include "cli/verb.h"
#include "model/model.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

// The tensors in the formats they are written in. `format`: of matrices; none: as they are stored.
std::vector<NamedTensor> tensors_to_write(const Checkpoint& checkpoint, std::optional<Dtype> format) {
  std::vector<NamedTensor> tensors;
  for (const NamedTensor& named : checkpoint.tensors()) {
    tensors.push_back(named);
    // Vectors and routers are small, and decide much.
    const bool is_kept = named.tensor.n_dims == 1 || named.tensor.dtype == Dtype::i32 ||
                         named.name.ends_with(".ffn_gate_inp.weight");
    Dtype& dtype = tensors.back().tensor.dtype;
    dtype = format && !is_kept ? *format : gguf_dtype_of(named.tensor.dtype);
  }
  return tensors;
}

// Tells of the tensors whose format GGUF has not.
void report_widened(const Checkpoint& checkpoint) {
  std::map<Dtype, int64_t> n_widened;
  for (const NamedTensor& named : checkpoint.tensors()) {
    if (gguf_dtype_of(named.tensor.dtype) != named.tensor.dtype) ++n_widened[named.tensor.dtype];
  }
  for (const auto& [dtype, n] : n_widened) {
    log_warning("{} tensors are {}, which GGUF files cannot hold: they are written as {}, rounded to it", n,
                format_of(dtype).name, format_of(gguf_dtype_of(dtype)).name);
  }
}

// general.file_type: the format of most elements.
int64_t file_type_of(const std::vector<NamedTensor>& tensors) {
  int64_t n_elems[kNDtypes] = {};
  for (const NamedTensor& named : tensors)
    n_elems[static_cast<size_t>(named.tensor.dtype)] += named.tensor.n_elems();
  const auto most = static_cast<Dtype>(std::max_element(n_elems, n_elems + kNDtypes) - n_elems);
  switch (most) {
    case Dtype::f32:
      return 0;
    case Dtype::f16:
      return 1;
    case Dtype::q4_0:
      return 2;
    case Dtype::q8_0:
      return 7;
    case Dtype::mxfp4:
      return 38;
    default:
      return 32;  // BF16
  }
}

class Convert final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("SRC", "A Hugging Face folder: config.json and safetensors", source_,
                    Args::Presence::needed);
    args.positional("DST", "The .gguf file to write", destination_, Args::Presence::needed);
    args.option("--outtype", "Format of the matrices: auto (as they are), f32, f16 or bf16", outtype_);
    args.option("--config", "The file of the folder that holds the hyperparameters", config_);
    args.flag("--no-tokenizer", "Write no tokenizer and no chat template", has_no_tokenizer_);
    args.option("-t,--threads", "Threads to compute with; 0: one a physical core", threads_);
  }

  void run() override {
    const std::optional<Dtype> format = wanted_format();
    if (!fs::is_directory(source_)) {
      fail(ErrorKind::usage, "{} is no folder; quantize writes a GGUF file as another",
           printable(source_, 400));
    }
    Source source(source_, config_, has_no_tokenizer_ ? SourceTexts::none : SourceTexts::all);
    load_model(source.checkpoint());  // what could not be run is not written
    if (!format) report_widened(source.checkpoint());
    write(source, tensors_to_write(source.checkpoint(), format));
  }

 private:
  std::optional<Dtype> wanted_format() const {
    if (outtype_ == "auto") return std::nullopt;
    const auto format = dtype_of_name(outtype_);
    if (format == Dtype::f32 || format == Dtype::f16 || format == Dtype::bf16) return format;
    fail(ErrorKind::usage, "--outtype is {}, expected auto, f32, f16 or bf16", printable(outtype_));
  }

  void write(Source& source, const std::vector<NamedTensor>& tensors) const {
    Metadata metadata = source.metadata();
    metadata.add("general.file_type", file_type_of(tensors));
    Recoder recoder(threads_ == 0 ? n_physical_cores() : threads_);
    std::vector<std::byte> recoded;
    const auto bytes_of = [&](size_t i) -> std::span<const std::byte> {
      const Tensor stored = source.read(i);
      Tensor to = tensors[i].tensor;
      if (to.dtype == stored.dtype) return {stored.data, static_cast<size_t>(stored.n_bytes())};
      recoded.resize(static_cast<size_t>(to.n_bytes()));
      to.data = recoded.data();
      recoder.recode(tensors[i].name, stored, to, {});
      return recoded;
    };
    ProgressBar progress("converting", source.checkpoint().n_bytes());
    write_gguf(destination_, {.metadata = metadata, .tensors = tensors, .bytes_of = bytes_of},
               [&](int64_t n_done, int64_t) { progress.advance(n_done); });
  }

  std::string source_, destination_, outtype_ = "auto", config_ = "config.json";
  bool has_no_tokenizer_ = false;
  int threads_ = 0;
};

}  // namespace

std::unique_ptr<Command> make_convert() { return std::make_unique<Convert>(); }

}  // namespace millrace
