#include "cli/loaded_model.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "backend/cuda/cuda.h"
#include "backend/op_shapes.h"  // page_types
#include "base/log.h"
#include "base/thread_pool.h"
#include "checkpoint/gguf.h"
#include "cli/folder_texts.h"
#include "cli/progress.h"
#include "engine/memory.h"
#include "engine/tensor_parallel.h"
#include "model/hf/generation_config.h"
#include "model/hf_import.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<Tokenizer> tokenizer_of_json(const fs::path& path) {
  const fs::path config = path.parent_path() / "tokenizer_config.json";
  return load_tokenizer_json(read_json_file(path), fs::exists(config) ? read_json_file(config) : Json());
}

// Tokenizer, chat template and ends of answers of a Hugging Face folder, as far as it has them.
void load_text_files(const fs::path& folder, LoadedModel& loaded) {
  loaded.of_folder = load_folder_tokenizer(folder, loaded.model->shape().n_vocab);
  loaded.tokenizer = std::move(loaded.of_folder.tokenizer);
  loaded.template_source = chat_template_of(folder);
  loaded.end_tokens = generation_end_tokens(folder);
}

// What the tokenizer names besides; without one, what the file names.
void add_end_tokens(LoadedModel& loaded) {
  std::vector<int32_t>& ends = loaded.end_tokens;
  if (loaded.tokenizer != nullptr) {
    ends.insert(ends.end(), loaded.tokenizer->end_tokens().begin(), loaded.tokenizer->end_tokens().end());
  } else if (const auto eos = loaded.checkpoint->metadata().get<int64_t>("tokenizer.ggml.eos_token_id")) {
    ends.push_back(static_cast<int32_t>(*eos));
  }
  std::ranges::sort(ends);
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

bool has_tokenizer(const Metadata& metadata) {
  const MetaValue* model = metadata.find("tokenizer.ggml.model");
  const auto* name = model == nullptr ? nullptr : std::get_if<std::string_view>(model);
  return model != nullptr && (name == nullptr || *name != "none");
}

}  // namespace

std::unique_ptr<Checkpoint> open_checkpoint(const fs::path& path) {
  if (!fs::is_directory(path)) return open_gguf(path);
  std::unique_ptr<HfFolder> folder = read_hf_folder(path);
  lay_out(*folder);
  return folder;
}

void lay_out(HfFolder& folder) {
  ProgressBar progress("laying out weights", folder.n_bytes());
  folder.make_all([&progress](int64_t n_done, int64_t n_total) {
    progress.set_total(n_total);
    progress.advance(n_done);
  });
}

LoadedTokenizer load_tokenizer_of(const fs::path& path) {
  LoadedTokenizer loaded;
  if (fs::is_directory(path)) {
    loaded.of_folder = load_folder_tokenizer(path);
    loaded.tokenizer = std::move(loaded.of_folder.tokenizer);
    if (loaded.tokenizer == nullptr)
      fail(ErrorKind::bad_model, "{} has no tokenizer.json, tekken.json or tokenizer.model",
           printable(path.string(), 400));
    return loaded;
  }
  if (path.extension() == ".json") {
    loaded.tokenizer = tokenizer_of_json(path);
    return loaded;
  }
  loaded.checkpoint = open_gguf(path);
  if (!has_tokenizer(loaded.checkpoint->metadata())) {
    fail(ErrorKind::bad_model, "{} has no tokenizer", printable(path.string(), 400));
  }
  loaded.tokenizer = load_tokenizer(loaded.checkpoint->metadata());
  return loaded;
}

void ComputeOptions::declare(Args& args) {
  args.option("--backend",
              "Where to compute: cpu, cuda (a GPU of NVIDIA), cuda-emulation (its kernels on the processor, "
              "very slow: to test them), or reference (slow, exact)",
              backend);
  args.option("-t,--threads", "Threads to compute with; 0: one a physical core", threads);
  args.option("--kv-type", "Type of keys and values: f32, f16, bf16, q8_0 or q4_0", kv_dtype);
  args.option(
      "--latents",
      "What latent attention keeps: absorbed (latents), or expanded (keys and values of all heads: long "
      "prompts are faster, answers slower, memory many times as much)",
      latents);
  args.option("--gpu-layers",
              "With --backend cuda, how many layers the GPU computes, the last ones, and the processor the "
              "others; auto: as many as fit",
              gpu_layers);
  args.flag("--cpu-moe", "With --backend cuda, leave the experts of all layers to the processor",
            keeps_experts);
  args.option("--n-cpu-moe", "With --backend cuda, leave the experts of so many layers, the first ones",
              n_cpu_moe);
  args.option("--tensor-parallel-size",
              "Ranks that compute the model together, each with a part of every layer: GPUs with --backend "
              "cuda, else shares of the threads",
              n_ranks);
}

int ComputeOptions::n_threads() const {
  return threads == 0 ? std::max(n_ranks, n_physical_cores()) : threads;
}

void ComputeOptions::check_ranks() const {
  if (n_ranks < 1 || n_ranks > 64)
    fail(ErrorKind::usage, "--tensor-parallel-size is {}, expected 1 to 64", n_ranks);
  if (n_ranks > n_threads())
    fail(ErrorKind::usage, "--tensor-parallel-size is {}: each rank needs a thread, and --threads is {}",
         n_ranks, threads);
  if (n_ranks > 1 && (gpu_layers || keeps_experts || n_cpu_moe))
    fail(ErrorKind::usage,
         "--gpu-layers, --cpu-moe and --n-cpu-moe cannot be used with --tensor-parallel-size, whose ranks "
         "compute everything");
}

std::unique_ptr<Backend> ComputeOptions::make_backend(int rank) const {
  if (threads < 0 || threads > 1024) fail(ErrorKind::usage, "--threads is {}, expected 0 to 1024", threads);
  check_ranks();
  if (backend == "cpu") return make_cpu_backend(n_threads() / n_ranks);
  if (backend == "reference") return make_reference_backend();
  if (backend == "cuda") return make_cuda_backend(rank);
  if (backend == "cuda-emulation") return make_emulated_cuda_backend(EmulatedThreads::ascending);
  fail(ErrorKind::usage, "--backend {} is not known; known: cpu, cuda, cuda-emulation, reference",
       printable(backend));
}

OffloadWish ComputeOptions::offload() const {
  const bool has_device = backend == "cuda" || backend == "cuda-emulation";
  if (!has_device && (gpu_layers || keeps_experts || n_cpu_moe))
    fail(ErrorKind::usage, "--gpu-layers, --cpu-moe and --n-cpu-moe belong to --backend cuda: give it too");
  if (keeps_experts && n_cpu_moe) fail(ErrorKind::usage, "--cpu-moe cannot be used with --n-cpu-moe");
  if (n_cpu_moe.value_or(0) < 0) fail(ErrorKind::usage, "--n-cpu-moe is {}, expected 0 or more", *n_cpu_moe);
  OffloadWish wish;
  if (keeps_experts) wish.n_cpu_moe = std::numeric_limits<int64_t>::max();
  if (n_cpu_moe) wish.n_cpu_moe = *n_cpu_moe;
  if (!gpu_layers || *gpu_layers == "auto") return wish;
  int64_t n = 0;
  const char* const end = gpu_layers->data() + gpu_layers->size();
  const auto [rest, error] = std::from_chars(gpu_layers->data(), end, n);
  if (error != std::errc() || rest != end || n < 0)
    fail(ErrorKind::usage, "--gpu-layers should be auto or a number of layers, found {}",
         printable(*gpu_layers));
  wish.n_gpu_layers = n;
  return wish;
}

Dtype ComputeOptions::kv_type() const {
  const auto dtype = dtype_of_name(kv_dtype);
  if (dtype && std::ranges::find(page_types(), *dtype) != page_types().end()) return *dtype;
  fail(ErrorKind::usage, "--kv-type {} is not known; known: f32, f16, bf16, q8_0, q4_0", printable(kv_dtype));
}

LatentForm ComputeOptions::latent_form() const {
  if (latents == "absorbed") return LatentForm::absorbed;
  if (latents == "expanded") return LatentForm::expanded;
  fail(ErrorKind::usage, "--latents {} is not known; known: absorbed, expanded", printable(latents));
}

const Tokenizer& LoadedModel::need_tokenizer() const {
  if (tokenizer == nullptr)
    fail(ErrorKind::bad_model, "the model has no tokenizer: give token ids with --tokens");
  return *tokenizer;
}

namespace {

void need(const Model& model, Gives wanted) {
  const bool gives_embeddings = model.shape().gives_embeddings();
  if (gives_embeddings && wanted == Gives::logits) {
    fail(ErrorKind::usage, "the model gives embeddings and no tokens: use the verb embed");
  }
  if (!gives_embeddings && wanted == Gives::embeddings) {
    fail(ErrorKind::usage, "the model gives tokens and no embeddings: use the verb run");
  }
}

}  // namespace

LoadedModel load(const fs::path& path, const ComputeOptions& compute, WithTokenizer with_tokenizer,
                 Gives wanted) {
  LoadedModel loaded;
  compute.offload();  // refuses what cannot be, before anything is read
  loaded.backend = compute.make_backend();
  loaded.checkpoint = open_checkpoint(path);
  const Metadata& metadata = loaded.checkpoint->metadata();
  loaded.model = load_model(*loaded.checkpoint, compute.latent_form());
  need(*loaded.model, wanted);
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
  add_end_tokens(loaded);
  return loaded;
}

namespace {

void place_parallel(LoadedModel& loaded, const ComputeOptions& compute, const RunnerShape& shape) {
  std::vector<std::unique_ptr<Backend>> ranks;
  ranks.push_back(std::move(loaded.backend));
  for (int rank = 1; rank < compute.n_ranks; ++rank) ranks.push_back(compute.make_backend(rank));
  std::vector<Memory*> memories;
  for (const auto& rank : ranks) memories.push_back(&rank->memory());
  std::unique_ptr<Collective> collective;
  if (compute.backend == "cuda") {
    collective = make_gpu_collective(memories);
    if (collective == nullptr)
      log_warning(
          "NCCL is not installed: the GPUs tell each other through the program's memory, which is slow");
  }
  if (collective == nullptr) collective = std::make_unique<SharedCollective>(memories);
  TensorParallel placed =
      place_on_ranks(*loaded.model, *loaded.checkpoint, shape, {std::move(ranks), std::move(collective)});
  log_line(placed.is_less ? LogLevel::warning : LogLevel::info, placed.text);
  loaded.backend = std::move(placed.backend);
}

}  // namespace

void place_weights(LoadedModel& loaded, const ComputeOptions& compute, const RunnerShape& shape) {
  if (compute.n_ranks > 1) return place_parallel(loaded, compute, shape);
  const OffloadWish wish = compute.offload();
  if (loaded.backend->memory().is_of_program()) return;
  const bool is_asked_for = wish.n_gpu_layers.has_value();
  const int64_t free_bytes = loaded.backend->memory().free_bytes() - (is_asked_for ? 0 : kSpareBytes);
  const Offload plan =
      plan_offload(*loaded.model, *loaded.checkpoint, shape, wish, {*loaded.backend, free_bytes});
  // What is slower than expected is told in any case.
  log_line(is_asked_for || plan.has_all ? LogLevel::info : LogLevel::warning, plan.text());
  loaded.backend =
      place(plan, std::move(loaded.backend), [&] { return make_cpu_backend(compute.n_threads()); });
}

}  // namespace millrace
