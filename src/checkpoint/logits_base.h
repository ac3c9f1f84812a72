// Predictions of a model on a text, saved so that others can be compared with them: the file that llama.cpp's
// perplexity tool writes with --kl-divergence-base.
//
//   "_logits_", then int32 n_ctx, n_vocab, n_windows
//   int32 tokens[n_windows * n_ctx]
//   for each scored position: float scale, float least, uint16 levels[n_vocab], padded to an even number
//
// log p(token) = least + scale * level, and nothing below e^-16 of the likeliest. The second half of each
// window but its last position is scored.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "base/file.h"

namespace millrace {

struct ScoredWindows {
  int64_t n_ctx = 0;
  int64_t n_vocab = 0;
  int64_t n_windows = 0;

  int64_t first_scored() const { return n_ctx / 2; }
  int64_t n_scored() const { return n_ctx - 1 - first_scored(); }  // of a window
};

class LogitsBaseWriter {
 public:
  // Writes the head; throws Error(does_not_fit) when the disk is too small for the rest.
  LogitsBaseWriter(const std::filesystem::path& path, const ScoredWindows& windows,
                   std::span<const int32_t> tokens);
  // Log-probabilities (n_vocab) of the next scored position.
  void add(std::span<const float> log_probs);
  void commit() { file_.commit(); }

 private:
  AtomicFile file_;
  std::vector<uint16_t> row_;
};

class LogitsBase {
 public:
  // Throws Error(bad_model) for anything but a whole file of that form.
  explicit LogitsBase(const std::filesystem::path& path);

  const ScoredWindows& windows() const { return windows_; }
  std::span<const int32_t> tokens() const { return tokens_; }
  // Log-probabilities of scored position `i` of `window`. `out` has n_vocab.
  void read(int64_t window, int64_t i, std::span<float> out) const;

 private:
  MappedFile file_;
  ScoredWindows windows_;
  std::vector<int32_t> tokens_;
  size_t rows_begin_ = 0;
};

}  // namespace millrace
