#include "cli/loaded_model.h"

#include "base/thread_pool.h"
#include "checkpoint/gguf.h"
#include "cli/folder_texts.h"
#include "model/hf_import.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<Tokenizer> tokenizer_of_json(const fs::path& path) {
  const fs::path config = path.parent_path() / "tokenizer_config.json";
  return load_tokenizer_json(read_json_file(path), fs::exists(config) ? read_json_file(config) : Json());
}

// Tokenizer and chat template of a Hugging Face folder, as far as it has them.
void load_text_files(const fs::path& folder, LoadedModel& loaded) {
  if (fs::exists(folder / "tokenizer.json")) loaded.tokenizer = tokenizer_of_json(folder / "tokenizer.json");
  loaded.template_source = chat_template_of(folder);
}

bool has_tokenizer(const Metadata& metadata) {
  const MetaValue* model = metadata.find("tokenizer.ggml.model");
  const auto* name = model == nullptr ? nullptr : std::get_if<std::string_view>(model);
  return model != nullptr && (name == nullptr || *name != "none");
}

}  // namespace

std::unique_ptr<Checkpoint> open_checkpoint(const fs::path& path) {
  return fs::is_directory(path) ? open_hf_directory(path) : open_gguf(path);
}

LoadedTokenizer load_tokenizer_of(const fs::path& path) {
  if (fs::is_directory(path)) return {nullptr, tokenizer_of_json(path / "tokenizer.json")};
  if (path.extension() == ".json") return {nullptr, tokenizer_of_json(path)};
  LoadedTokenizer loaded;
  loaded.checkpoint = open_gguf(path);
  if (!has_tokenizer(loaded.checkpoint->metadata())) {
    fail(ErrorKind::bad_model, "{} has no tokenizer", printable(path.string(), 400));
  }
  loaded.tokenizer = load_tokenizer(loaded.checkpoint->metadata());
  return loaded;
}

void ComputeOptions::declare(Args& args) {
  args.option("--backend", "Where to compute: cpu, or reference (slow, exact)", backend);
  args.option("-t,--threads", "Threads to compute with; 0: one a physical core", threads);
  args.option("--kv-dtype", "Type of keys and values: f16, bf16 or f32", kv_dtype);
}

int ComputeOptions::n_threads() const { return threads == 0 ? n_physical_cores() : threads; }

std::unique_ptr<Backend> ComputeOptions::make_backend() const {
  if (threads < 0 || threads > 1024) fail(ErrorKind::usage, "--threads is {}, expected 0 to 1024", threads);
  if (backend == "cpu") return make_cpu_backend(n_threads());
  if (backend == "reference") return make_reference_backend();
  if (backend == "cuda")
    fail(ErrorKind::usage, "--backend cuda: this build has no CUDA backend; known: cpu, reference");
  fail(ErrorKind::usage, "--backend {} is not known; known: cpu, reference", printable(backend));
}

Dtype ComputeOptions::kv_type() const {
  const auto dtype = dtype_of_name(kv_dtype);
  if (dtype == Dtype::f16 || dtype == Dtype::bf16 || dtype == Dtype::f32) return *dtype;
  fail(ErrorKind::usage, "--kv-dtype {} is not known; known: f16, bf16, f32", printable(kv_dtype));
}

const Tokenizer& LoadedModel::need_tokenizer() const {
  if (tokenizer == nullptr)
    fail(ErrorKind::bad_model, "the model has no tokenizer: give token ids with --tokens");
  return *tokenizer;
}

LoadedModel load(const fs::path& path, const ComputeOptions& compute, WithTokenizer with_tokenizer) {
  LoadedModel loaded;
  loaded.backend = compute.make_backend();
  loaded.checkpoint = open_checkpoint(path);
  const Metadata& metadata = loaded.checkpoint->metadata();
  loaded.model = load_model(*loaded.checkpoint);
  if (with_tokenizer == WithTokenizer::no) return loaded;
  if (fs::is_directory(path)) {
    load_text_files(path, loaded);
  } else if (has_tokenizer(metadata)) {
    loaded.tokenizer = load_tokenizer(metadata);
  }
  if (loaded.tokenizer != nullptr && loaded.tokenizer->n_vocab() > loaded.model->shape().n_vocab) {
    fail(ErrorKind::bad_model, "the tokenizer has {} tokens, the model {}", loaded.tokenizer->n_vocab(),
         loaded.model->shape().n_vocab);
  }
  if (const auto source = metadata.get<std::string_view>("tokenizer.chat_template"))
    loaded.template_source = *source;
  return loaded;
}

}  // namespace millrace
