// perplexity: how well a model predicts a text, as llama.cpp's tool measures it: windows of --ctx tokens, the
// first of each replaced by BOS where the tokenizer adds one, the second half of each window counts. Beside a
// saved base: how far the predictions are from it.
#include <algorithm>
#include <cmath>
#include <optional>

#include "base/json.h"
#include "checkpoint/logits_base.h"
#include "cli/divergence_report.h"
#include "cli/loaded_model.h"
#include "cli/progress.h"
#include "cli/verb.h"
#include "engine/scoring.h"

namespace millrace {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;
constexpr int64_t kRowsAStep = 512;

// -log p of what followed, over all scored positions.
class Surprise {
 public:
  void add(double value) {
    sum_ += value;
    squares_ += value * value;
    ++n_;
  }
  int64_t n() const { return n_; }
  double perplexity() const { return std::exp(mean()); }
  double stderr_of_perplexity() const {
    const auto n = static_cast<double>(n_);
    const double variance = std::max(0.0, squares_ / n - mean() * mean());
    return perplexity() * std::sqrt(variance / std::max(1.0, n - 1.0));
  }

 private:
  double mean() const { return sum_ / static_cast<double>(n_); }

  double sum_ = 0.0, squares_ = 0.0;
  int64_t n_ = 0;
};

class Perplexity final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("MODEL", "A .gguf file (of a split model, the first) or a Hugging Face folder", model_,
                    Args::Presence::needed);
    args.positional("FILE", "The text; with --base it may be left out", file_, Args::Presence::optional);
    args.option("-c,--ctx", "Tokens a window", n_ctx_);
    args.option("--chunks", "At most so many windows; 0: all", max_windows_);
    args.option("--save-base", "Save the predictions to this file, for --base of other models", save_base_);
    args.option("--base", "Compare with the predictions saved in this file (also llama.cpp's)", base_);
    args.flag("--json", "Print {\"perplexity\", \"stderr\", \"n_tokens\", \"n_windows\"} and \"divergence\"",
              is_json_);
    compute_.declare(args);
  }

  void run() override {
    if (n_ctx_ < 4) fail(ErrorKind::usage, "--ctx is {}, expected at least 4", n_ctx_);
    if (max_windows_ < 0) fail(ErrorKind::usage, "--chunks is {}, expected 0 or more", max_windows_);
    if (file_.empty() && base_.empty()) fail(ErrorKind::usage, "perplexity: FILE is missing");
    std::optional<LogitsBase> base;
    if (!base_.empty()) base.emplace(base_);
    LoadedModel loaded = load(model_, compute_, WithTokenizer::yes);
    if (base) take_windows(*base, loaded.model->shape().n_vocab);
    ScoredWindows windows{.n_ctx = n_ctx_, .n_vocab = loaded.model->shape().n_vocab};
    std::vector<int32_t> tokens = file_.empty()
                                      ? std::vector<int32_t>(base->tokens().begin(), base->tokens().end())
                                      : tokens_of(loaded);
    windows.n_windows = n_windows_of(tokens, base ? base->windows().n_windows : 0);
    tokens.resize(static_cast<size_t>(windows.n_windows * n_ctx_));
    if (base && !std::ranges::equal(tokens, base->tokens().first(tokens.size())))
      fail(ErrorKind::usage, "{} was saved for other tokens than those of {}", printable(base_, 400),
           printable(file_, 400));
    place_weights(loaded, compute_, Scorer::shape(*loaded.model, n_ctx_, kRowsAStep, compute_.kv_type()));
    measure(loaded, windows, tokens, base ? &*base : nullptr);
  }

 private:
  // The base says how the text is cut.
  void take_windows(const LogitsBase& base, int64_t n_vocab) {
    if (base.windows().n_vocab != n_vocab)
      fail(ErrorKind::usage, "{} is of a vocabulary of {}, the model has {}", printable(base_, 400),
           base.windows().n_vocab, n_vocab);
    n_ctx_ = base.windows().n_ctx;
  }

  std::vector<int32_t> tokens_of(const LoadedModel& loaded) const {
    const std::string text = read_file(file_, kMaxTextBytes, ErrorKind::usage);
    return loaded.need_tokenizer().encode(text, {});
  }

  // `limit`: windows of the base, or 0.
  int64_t n_windows_of(const std::vector<int32_t>& tokens, int64_t limit) const {
    int64_t n = std::ssize(tokens) / n_ctx_;
    if (n == 0)
      fail(ErrorKind::usage, "the text has {} tokens, expected at least one window of {}", tokens.size(),
           n_ctx_);
    if (limit > 0) n = std::min(n, limit);
    return max_windows_ > 0 ? std::min(n, max_windows_) : n;
  }

  void measure(const LoadedModel& loaded, const ScoredWindows& windows, const std::vector<int32_t>& tokens,
               const LogitsBase* base) {
    std::optional<LogitsBaseWriter> writer;
    if (!save_base_.empty()) writer.emplace(save_base_, windows, tokens);
    Scorer scorer(*loaded.model, *loaded.backend, n_ctx_, kRowsAStep, compute_.kv_type());
    const std::optional<int32_t> bos = bos_of(loaded);
    Surprise surprise;
    DivergenceMeter meter;
    const auto n_vocab = static_cast<size_t>(windows.n_vocab);
    std::vector<float> log_probs(n_vocab), base_log_probs(n_vocab);
    ProgressBar progress("perplexity", windows.n_windows);
    for (int64_t w = 0; w < windows.n_windows; ++w) {
      const auto targets =
          std::span(tokens).subspan(static_cast<size_t>(w * n_ctx_), static_cast<size_t>(n_ctx_));
      std::vector<int32_t> window(targets.begin(), targets.end());
      if (bos) window[0] = *bos;
      scorer.score(window, [&](int64_t first, const Tensor& logits) {
        for (int64_t i = 0; i < logits.dim(0); ++i) {
          const int64_t scored = first + i - windows.first_scored();
          if (scored < 0 || scored >= windows.n_scored()) continue;
          const int32_t followed = targets[static_cast<size_t>(first + i + 1)];
          log_softmax({reinterpret_cast<const float*>(logits.row(i)), n_vocab}, log_probs);
          surprise.add(-static_cast<double>(log_probs[static_cast<size_t>(followed)]));
          if (writer) writer->add(log_probs);
          if (base == nullptr) continue;
          base->read(w, scored, base_log_probs);
          meter.add(base_log_probs, log_probs, followed);
        }
      });
      progress.advance(w + 1);
    }
    progress.finish();
    if (writer) writer->commit();
    print(surprise, windows.n_windows, base == nullptr ? std::nullopt : std::optional(meter.result()));
  }

  static std::optional<int32_t> bos_of(const LoadedModel& loaded) {
    const bool is_added = loaded.tokenizer != nullptr && !loaded.tokenizer->encode("", {}).empty();
    return is_added ? loaded.tokenizer->bos() : std::nullopt;
  }

  void print(const Surprise& surprise, int64_t n_windows, const std::optional<Divergence>& divergence) const {
    if (!is_json_) {
      fmt::print("perplexity {:.4f} +- {:.4f} over {} tokens in {} windows of {}\n", surprise.perplexity(),
                 surprise.stderr_of_perplexity(), surprise.n(), n_windows, n_ctx_);
      if (divergence) print_divergence(*divergence);
      return;
    }
    Json out;
    out["perplexity"] = surprise.perplexity();
    out["stderr"] = surprise.stderr_of_perplexity();
    out["n_tokens"] = surprise.n();
    out["n_windows"] = n_windows;
    if (divergence) out["divergence"] = json_of(*divergence);
    fmt::print("{}\n", out.dump());
  }

  std::string model_, file_, save_base_, base_;
  int64_t n_ctx_ = 512, max_windows_ = 0;
  bool is_json_ = false;
  ComputeOptions compute_;
};

}  // namespace

std::unique_ptr<Command> make_perplexity() { return std::make_unique<Perplexity>(); }

}  // namespace millrace
