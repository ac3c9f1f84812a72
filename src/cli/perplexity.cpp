// perplexity: how well a model predicts a text, as llama.cpp's tool measures it: windows of --ctx tokens, the
// first of each replaced by BOS where the tokenizer adds one, the second half of each window counts.
#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/json.h"
#include "cli/loaded_model.h"
#include "cli/progress.h"
#include "cli/verb.h"
#include "engine/scoring.h"

namespace millrace {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;

// -log p(token) under the logits of one position, in natural logarithms.
double surprise(const float* logits, int64_t n_vocab, int32_t token) {
  const double max = *std::max_element(logits, logits + n_vocab);
  double sum = 0.0;
  for (int64_t i = 0; i < n_vocab; ++i) sum += std::exp(static_cast<double>(logits[i]) - max);
  return max + std::log(sum) - static_cast<double>(logits[token]);
}

class Perplexity final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("MODEL", "A .gguf file (of a split model, the first)", model_, Args::Presence::needed);
    args.positional("FILE", "The text", file_, Args::Presence::needed);
    args.option("-c,--ctx", "Tokens a window", n_ctx_);
    args.option("--chunks", "At most so many windows; 0: all", max_windows_);
    args.flag("--json", "Print {\"perplexity\", \"stderr\", \"n_tokens\", \"n_windows\"}", is_json_);
    compute_.declare(args);
  }

  void run() override {
    if (n_ctx_ < 4) fail(ErrorKind::usage, "--ctx is {}, expected at least 4", n_ctx_);
    if (max_windows_ < 0) fail(ErrorKind::usage, "--chunks is {}, expected 0 or more", max_windows_);
    const LoadedModel loaded = load(model_, compute_, WithTokenizer::yes);
    const std::string text = read_file(file_, kMaxTextBytes, ErrorKind::usage);
    const std::vector<int32_t> tokens = loaded.need_tokenizer().encode(text, {});
    int64_t n_windows = static_cast<int64_t>(tokens.size()) / n_ctx_;
    if (n_windows == 0)
      fail(ErrorKind::usage, "the text has {} tokens, expected at least one window of {}", tokens.size(),
           n_ctx_);
    if (max_windows_ > 0) n_windows = std::min(n_windows, max_windows_);
    measure(loaded, tokens, n_windows);
  }

 private:
  void measure(const LoadedModel& loaded, const std::vector<int32_t>& tokens, int64_t n_windows) {
    Scorer scorer(*loaded.model, *loaded.backend, n_ctx_, 512, compute_.kv_type());
    const bool has_bos = !loaded.tokenizer->encode("", {}).empty() && loaded.tokenizer->bos();
    const int64_t n_vocab = loaded.model->shape().n_vocab;
    ProgressBar progress("perplexity", n_windows);
    double sum = 0.0, squares = 0.0;
    int64_t n = 0;
    for (int64_t w = 0; w < n_windows; ++w) {
      std::vector<int32_t> window(tokens.begin() + w * n_ctx_, tokens.begin() + (w + 1) * n_ctx_);
      const std::vector<int32_t> targets = window;
      if (has_bos) window[0] = *loaded.tokenizer->bos();
      scorer.score(window, [&](int64_t first, const Tensor& logits) {
        for (int64_t i = 0; i < logits.dim(0); ++i) {
          const int64_t position = first + i;
          if (position < n_ctx_ / 2 || position + 1 >= n_ctx_) continue;
          const double s =
              surprise(logits.f32() + i * n_vocab, n_vocab, targets[static_cast<size_t>(position + 1)]);
          sum += s;
          squares += s * s;
          ++n;
        }
      });
      progress.advance(w + 1);
    }
    progress.finish();
    const auto count = static_cast<double>(n);
    const double mean = sum / count;
    const double error =
        std::exp(mean) * std::sqrt(std::max(0.0, squares / count - mean * mean) / std::max(1.0, count - 1.0));
    if (!is_json_) {
      fmt::print("perplexity {:.4f} +- {:.4f} over {} tokens in {} windows of {}\n", std::exp(mean), error, n,
                 n_windows, n_ctx_);
      return;
    }
    Json out;
    out["perplexity"] = std::exp(mean);
    out["stderr"] = error;
    out["n_tokens"] = n;
    out["n_windows"] = n_windows;
    fmt::print("{}\n", out.dump());
  }

  std::string model_, file_;
  int64_t n_ctx_ = 512, max_windows_ = 0;
  bool is_json_ = false;
  ComputeOptions compute_;
};

}  // namespace

std::unique_ptr<Command> make_perplexity() { return std::make_unique<Perplexity>(); }

}  // namespace millrace
