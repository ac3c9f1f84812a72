// MODEL of the command line, opened: checkpoint, tokenizer, chat template, weights, backend.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/args.h"
#include "checkpoint/checkpoint.h"
#include "cli/folder_texts.h"
#include "engine/engine.h"
#include "engine/offload.h"
#include "model/hf_import.h"
#include "model/model.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace millrace {

// The tokenizer of MODEL: a .gguf file (with or without weights), a tokenizer.json, or a Hugging Face folder.
struct LoadedTokenizer {
  std::unique_ptr<Checkpoint> checkpoint;  // what the tokenizer's strings lie in, of a .gguf file
  FolderTokenizer of_folder;               // the same of a folder
  std::unique_ptr<Tokenizer> tokenizer;
};
LoadedTokenizer load_tokenizer_of(const std::filesystem::path& path);

std::unique_ptr<Checkpoint> open_checkpoint(const std::filesystem::path& path);
// Makes the weights of a folder that are not used as they lie, with a progress bar.
void lay_out(HfFolder& folder);

// Where to compute and with what memory: the options that every computing verb has.
struct ComputeOptions {
  std::string backend = "cpu";
  int threads = 0;  // 0: one a physical core
  std::string kv_dtype = "f16";
  std::string latents = "absorbed";
  std::optional<std::string> gpu_layers;
  bool keeps_experts = false;
  std::optional<int32_t> n_cpu_moe;
  int n_ranks = 1;  // that compute together

  void declare(Args& args);
  // Of one of the ranks. Throws Error(usage) for numbers that make no sense.
  std::unique_ptr<Backend> make_backend(int rank = 0) const;
  // Throws Error(usage) for numbers that make no sense, and for any of them without a GPU to compute on.
  OffloadWish offload() const;
  // Throws Error(usage) for a type that pages cannot have.
  Dtype kv_type() const;
  // Throws Error(usage) for a form that is not known.
  LatentForm latent_form() const;
  int n_threads() const;  // of all ranks

 private:
  void check_ranks() const;
};

struct LoadedModel {
  std::unique_ptr<Checkpoint> checkpoint;
  FolderTokenizer of_folder;                   // what the strings of the tokenizer of a folder lie in
  std::unique_ptr<Tokenizer> tokenizer;        // nullptr where the checkpoint has none
  std::optional<std::string> template_source;  // of the chat template
  std::vector<int32_t> end_tokens;             // that end an answer, ascending
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;

  // Throws Error(bad_model) where there is none.
  const Tokenizer& need_tokenizer() const;
};
enum class WithTokenizer { yes, no };
enum class Gives { logits, embeddings, either };
// Throws Error(usage) for a model that gives something else than `wanted`, naming the verb for it. Before the
// model can run, its weights must be placed.
LoadedModel load(const std::filesystem::path& path, const ComputeOptions& compute,
                 WithTokenizer with_tokenizer, Gives wanted = Gives::logits);

// Brings to a GPU what of the model fits there, beside the memory of what is going to run it, and leaves the
// rest to the processor; or to each rank its part. Says which in a line. Throws Error(does_not_fit) where
// that is not what was asked for.
void place_weights(LoadedModel& loaded, const ComputeOptions& compute, const RunnerShape& shape);

}  // namespace millrace
