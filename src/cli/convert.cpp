// convert: a Hugging Face folder to one GGUF file, with its tokenizer and chat template.
#include <algorithm>
#include <cmath>
#include <map>

#include "base/log.h"
#include "checkpoint/gguf.h"
#include "cli/folder_texts.h"
#include "cli/progress.h"
#include "cli/verb.h"
#include "model/hf/generation_config.h"
#include "model/hf_import.h"
#include "model/model.h"
#include "text/gguf_tokenizer_keys.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

// Tensors in the format they are written in, one at a time.
class Conversion {
 public:
  // `format`: of matrices; none: as they are stored.
  Conversion(const HfFolder& folder, std::optional<Dtype> format) : folder_(folder) {
    for (const NamedTensor& named : folder.tensors()) {
      tensors_.push_back(named);
      tensors_.back().tensor.data = nullptr;
      // Vectors and routers are small, and decide much.
      const bool is_kept = named.tensor.n_dims == 1 || named.name.ends_with(".ffn_gate_inp.weight");
      Dtype& dtype = tensors_.back().tensor.dtype;
      dtype = format && !is_kept ? *format : gguf_dtype_of(named.tensor.dtype);
      if (dtype != named.tensor.dtype && !format) ++n_widened_[named.tensor.dtype];
    }
  }

  const std::vector<NamedTensor>& tensors() const { return tensors_; }

  // Tells of the tensors whose format GGUF has not.
  void report() const {
    for (const auto& [dtype, n] : n_widened_) {
      log_warning("{} tensors are {}, which GGUF files cannot hold: they are written as {}, rounded to it", n,
                  format_of(dtype).name, format_of(gguf_dtype_of(dtype)).name);
    }
  }

  // Valid until the next call.
  std::span<const std::byte> bytes_of(size_t i) {
    const Tensor& stored = folder_.tensors()[i].tensor;
    stored_.resize(static_cast<size_t>(stored.n_bytes()));
    folder_.write(i, stored_.data());
    if (tensors_[i].tensor.dtype == stored.dtype) return stored_;
    encode(stored, tensors_[i]);
    return encoded_;
  }

 private:
  void encode(const Tensor& stored, const NamedTensor& to) {
    encoded_.resize(static_cast<size_t>(to.tensor.n_bytes()));
    const int64_t n_cols = stored.n_cols();
    std::vector<float> row(static_cast<size_t>(n_cols));
    for (int64_t i = 0; i < stored.n_rows(); ++i) {
      format_of(stored.dtype).decode(stored_.data() + i * stored.row_bytes(), row.data(), n_cols);
      if (to.tensor.dtype == Dtype::f16) check_range(row, to.name);
      format_of(to.tensor.dtype).encode(row.data(), encoded_.data() + i * to.tensor.row_bytes(), n_cols, {});
    }
  }

  static void check_range(const std::vector<float>& row, const std::string& name) {
    constexpr float kMaxF16 = 65504.0f;
    for (const float value : row) {
      if (std::fabs(value) <= kMaxF16) continue;
      fail(ErrorKind::bad_model, "tensor {} holds {}, which F16 cannot hold: use --outtype bf16 or f32", name,
           value);
    }
  }

  const HfFolder& folder_;
  std::vector<NamedTensor> tensors_;
  std::vector<std::byte> stored_, encoded_;
  std::map<Dtype, int64_t> n_widened_;
};

class Convert final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("SRC", "A Hugging Face folder: config.json and safetensors", source_,
                    Args::Presence::needed);
    args.positional("DST", "The .gguf file to write", destination_, Args::Presence::needed);
    args.option("--outtype", "Format of the matrices: auto (as they are), f32, f16 or bf16", outtype_);
    args.option("--config", "The file of the folder that holds the hyperparameters", config_);
    args.flag("--no-tokenizer", "Write no tokenizer and no chat template", has_no_tokenizer_);
  }

  void run() override {
    const std::optional<Dtype> format = wanted_format();
    const std::unique_ptr<HfFolder> folder = read_hf_folder(source_, config_);
    const int64_t n_vocab = load_model(*folder)->shape().n_vocab;  // what could not be run is not written
    Conversion conversion(*folder, format);
    conversion.report();
    Metadata metadata = metadata_of(*folder, conversion);
    if (!has_no_tokenizer_) add_texts(metadata, n_vocab);
    ProgressBar progress("converting", folder->n_bytes());
    write_gguf(destination_,
               {.metadata = metadata,
                .tensors = conversion.tensors(),
                .bytes_of = [&](size_t i) { return conversion.bytes_of(i); }},
               [&](int64_t n_done, int64_t) { progress.advance(n_done); });
  }

 private:
  std::optional<Dtype> wanted_format() const {
    if (outtype_ == "auto") return std::nullopt;
    const auto format = dtype_of_name(outtype_);
    if (format == Dtype::f32 || format == Dtype::f16 || format == Dtype::bf16) return format;
    fail(ErrorKind::usage, "--outtype is {}, expected auto, f32, f16 or bf16", printable(outtype_));
  }

  Metadata metadata_of(const HfFolder& folder, const Conversion& conversion) {
    Metadata metadata;
    for (const auto& [key, value] : folder.metadata().entries()) metadata.add(key, value);
    name_ = fs::canonical(source_).filename().string();
    metadata.add("general.name", std::string_view(name_));
    metadata.add("general.file_type", file_type(conversion));
    return metadata;
  }

  // general.file_type: the format of most elements.
  static int64_t file_type(const Conversion& conversion) {
    int64_t n_elems[kNDtypes] = {};
    for (const NamedTensor& named : conversion.tensors()) {
      n_elems[static_cast<size_t>(named.tensor.dtype)] += named.tensor.n_elems();
    }
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

  void add_texts(Metadata& metadata, int64_t n_vocab) {
    const fs::path folder(source_);
    if (const fs::path path = folder / "tokenizer.json"; fs::exists(path)) {
      const fs::path config = folder / "tokenizer_config.json";
      tokenizer_ = std::make_unique<GgufTokenizerKeys>(
          read_json_file(path), fs::exists(config) ? read_json_file(config) : Json(), n_vocab);
      for (const auto& [key, value] : tokenizer_->entries()) metadata.add(key, value);
      add_end_tokens(metadata);
    } else if ((tokenizer_keys_ = tokenizer_keys_of(folder, n_vocab)) != nullptr) {
      for (const auto& [key, value] : tokenizer_keys_->entries()) metadata.add(key, value);
      add_end_tokens(metadata);
    } else {
      log_warning("{} has no tokenizer.json, tekken.json or tokenizer.model: the file gets no tokenizer",
                  printable(source_, 400));
    }
    if (const auto source = chat_template_of(folder)) {
      template_ = *source;
      metadata.add("tokenizer.chat_template", std::string_view(template_));
    }
  }

  // generation_config.json may name more tokens that end an answer.
  void add_end_tokens(Metadata& metadata) const {
    const std::vector<int32_t> ends = generation_end_tokens(source_);
    if (ends.size() > 1)
      metadata.add("tokenizer.ggml.eos_token_ids", std::vector<int64_t>(ends.begin(), ends.end()));
  }

  std::string source_, destination_, outtype_ = "auto", config_ = "config.json";
  bool has_no_tokenizer_ = false;
  std::string name_, template_;  // the metadata points at them
  std::unique_ptr<GgufTokenizerKeys> tokenizer_;
  std::unique_ptr<TokenizerKeys> tokenizer_keys_;
};

}  // namespace

std::unique_ptr<Command> make_convert() { return std::make_unique<Convert>(); }

}  // namespace millrace
