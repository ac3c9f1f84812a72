// imatrix: an importance matrix of a model, measured on a text: what quantize needs to know which columns
// count.
#include <algorithm>

#include "backend/tools/importance_backend.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoint/importance.h"
#include "cli/embedding_engine.h"
#include "cli/loaded_model.h"
#include "cli/progress.h"
#include "cli/verb.h"
#include "engine/scoring.h"

namespace millrace {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;

class Imatrix final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("MODEL", "A .gguf file (of a split model, the first) or a Hugging Face folder", model_,
                    Args::Presence::needed);
    args.positional("TEXT", "The file with the text; or give --tokens", file_, Args::Presence::optional);
    args.option("-o,--output", "The file to write: GGUF, or the older form where its name ends in .dat",
                output_);
    args.option("--tokens", "Token ids instead of a text: 1,2,3", tokens_);
    args.option("-c,--ctx", "Tokens a window", n_ctx_);
    args.option("--chunks", "At most so many windows; 0: all", max_windows_);
    args.flag("--process-output", "Measure output.weight too", measures_output_);
    args.flag("--json", "Print {\"n_tokens\", \"n_windows\", \"n_weights\", \"n_experts_unreached\"}",
              is_json_);
    compute_.declare(args);
  }

  void run() override {
    if (output_.empty()) fail(ErrorKind::usage, "imatrix: --output is missing");
    if (n_ctx_ < 1) fail(ErrorKind::usage, "--ctx is {}, expected at least 1", n_ctx_);
    if (max_windows_ < 0) fail(ErrorKind::usage, "--chunks is {}, expected 0 or more", max_windows_);
    if (file_.empty() == tokens_.empty()) fail(ErrorKind::usage, "imatrix: give TEXT or --tokens");
    if (compute_.latent_form() != LatentForm::absorbed)
      fail(ErrorKind::usage, "imatrix measures weights as files have them: --latents absorbed");
    if (compute_.n_ranks > 1)
      fail(ErrorKind::usage,
           "imatrix looks at whole activations: --tensor-parallel-size cannot be used with it");
    const LoadedModel loaded = load(model_, compute_, WithTokenizer::yes, Gives::either);
    if (!loaded.backend->memory().is_of_program())
      fail(ErrorKind::usage,
           "imatrix looks at activations, and those on a GPU cannot be seen: use --backend cpu");
    std::vector<int32_t> tokens = tokens_of(loaded);
    if (tokens.empty()) fail(ErrorKind::usage, "the text has no tokens");
    if (max_windows_ > 0) tokens.resize(std::min(tokens.size(), static_cast<size_t>(max_windows_ * n_ctx_)));
    ImportanceBackend backend(*loaded.backend, watched(*loaded.checkpoint));
    const bool embeds = loaded.model->shape().gives_embeddings();
    const int64_t n_windows = embeds ? embed(loaded, backend, tokens) : score(loaded, backend, tokens);
    const MeasuredImportance measured{.weights = backend.sums(),
                                      .dataset = file_.empty() ? "token ids" : file_,
                                      .n_chunks = n_windows,
                                      .chunk_tokens = n_ctx_};
    write_importance(output_, measured);
    print(measured, tokens.size());
  }

 private:
  std::vector<int32_t> tokens_of(const LoadedModel& loaded) const {
    if (!tokens_.empty()) return parse_ids(tokens_, "--tokens");
    const std::string text = read_file(file_, kMaxTextBytes, ErrorKind::usage);
    // Of embeddings each window is a text by itself, and gets the tokens around it there.
    return loaded.need_tokenizer().encode(text, {.add_special = !loaded.model->shape().gives_embeddings()});
  }

  // What the tokenizer puts around a text; nothing around ids that were given.
  struct Frame {
    std::vector<int32_t> before, after;
  };
  Frame frame_of(const LoadedModel& loaded) const {
    if (!tokens_.empty()) return {};
    const std::vector<int32_t> inner = loaded.need_tokenizer().encode("a", {.add_special = false}),
                               whole = loaded.need_tokenizer().encode("a", {});
    const auto begin = std::search(whole.begin(), whole.end(), inner.begin(), inner.end());
    const auto n_after = std::max<int64_t>(0, whole.end() - begin - std::ssize(inner));
    return {{whole.begin(), begin}, {whole.end() - n_after, whole.end()}};
  }

  // The model reads each window as a text. Returns how many.
  int64_t embed(const LoadedModel& loaded, Backend& backend, const std::vector<int32_t>& tokens) const {
    const ModelShape& shape = loaded.model->shape();
    const Frame frame = frame_of(loaded);
    const int64_t n_frame = std::ssize(frame.before) + std::ssize(frame.after);
    const int64_t n_ctx = std::min(n_ctx_, shape.n_ctx_train);
    if (n_ctx <= n_frame) fail(ErrorKind::usage, "--ctx is {}, expected more than {}", n_ctx_, n_frame);
    const int64_t window = std::min(n_ctx - n_frame, std::ssize(tokens));
    Engine engine(*loaded.model, backend,
                  options_for_embeddings(loaded, {.pooling = shape.pooling,
                                                  .n_ctx = window + n_frame,
                                                  .n_sequences = 1,
                                                  .n_texts = 1,
                                                  .kv_dtype = compute_.kv_type(),
                                                  .has_prefix_cache = false}));
    ProgressBar progress("measuring", std::ssize(tokens));
    int64_t n_windows = 0;
    for (int64_t begin = 0; begin < std::ssize(tokens); begin += window, ++n_windows) {
      const int64_t end = std::min(begin + window, std::ssize(tokens));
      Request request{.prompt = frame.before};
      request.prompt.insert(request.prompt.end(), tokens.begin() + begin, tokens.begin() + end);
      request.prompt.insert(request.prompt.end(), frame.after.begin(), frame.after.end());
      embed_all(engine, {&request, 1});
      progress.advance(end);
    }
    return n_windows;
  }

  // The matrices of the blocks.
  std::vector<ImportanceBackend::Watched> watched(const Checkpoint& checkpoint) const {
    std::vector<ImportanceBackend::Watched> watched;
    for (const auto& [name, tensor] : checkpoint.tensors()) {
      const bool is_measured = name.starts_with("blk.") || (measures_output_ && name == "output.weight");
      if (is_measured && tensor.n_dims >= 2 && tensor.n_elems() > 0) watched.push_back({name, tensor});
    }
    return watched;
  }

  // In windows, each of which begins with BOS where the tokenizer adds one. Returns how many.
  int64_t score(const LoadedModel& loaded, Backend& backend, const std::vector<int32_t>& tokens) const {
    const auto window = std::min(static_cast<size_t>(n_ctx_), tokens.size());
    Scorer scorer(*loaded.model, backend, static_cast<int64_t>(window), 512, compute_.kv_type());
    const bool has_bos = loaded.tokenizer != nullptr && !loaded.tokenizer->encode("", {}).empty();
    ProgressBar progress("measuring", std::ssize(tokens));
    int64_t n_windows = 0;
    for (size_t begin = 0; begin < tokens.size(); begin += window, ++n_windows) {
      const auto end = std::min(begin + window, tokens.size());
      std::vector<int32_t> part(tokens.begin() + static_cast<int64_t>(begin),
                                tokens.begin() + static_cast<int64_t>(end));
      if (has_bos && loaded.tokenizer->bos()) part[0] = *loaded.tokenizer->bos();
      scorer.score(part, [](int64_t, const Tensor&) {});
      progress.advance(static_cast<int64_t>(end));
    }
    return n_windows;
  }

  void print(const MeasuredImportance& measured, size_t n_tokens) const {
    int64_t n_unreached = 0;
    for (const auto& [name, sums] : measured.weights) n_unreached += std::ranges::count(sums.counts, 0);
    if (!is_json_) {
      fmt::print("measured {} weights on {} tokens in {} windows\n", measured.weights.size(), n_tokens,
                 measured.n_chunks);
      if (n_unreached > 0)
        fmt::print("{} matrices of experts saw no token: they count all columns alike; more text helps\n",
                   n_unreached);
      return;
    }
    Json out;
    out["n_tokens"] = n_tokens;
    out["n_windows"] = measured.n_chunks;
    out["n_weights"] = measured.weights.size();
    out["n_experts_unreached"] = n_unreached;
    fmt::print("{}\n", out.dump());
  }

  std::string model_, file_, output_, tokens_;
  int64_t n_ctx_ = 512, max_windows_ = 0;
  bool measures_output_ = false, is_json_ = false;
  ComputeOptions compute_;
};

}  // namespace

std::unique_ptr<Command> make_imatrix() { return std::make_unique<Imatrix>(); }

}  // namespace millrace
