#include "checkpoint/logits_base.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace millrace {
namespace {

constexpr std::string_view kMagic = "_logits_";
constexpr size_t kHeadBytes = kMagic.size() + 3 * sizeof(int32_t);
constexpr size_t kRowHead = 4;  // uint16 that hold the two floats
constexpr int64_t kMaxVocab = int64_t{1} << 24, kMaxContext = int64_t{1} << 24;
constexpr float kRange = 16.0f, kLevels = 65535.0f;

size_t row_levels(int64_t n_vocab) { return static_cast<size_t>((n_vocab + 1) / 2 * 2) + kRowHead; }

size_t row_bytes(int64_t n_vocab) { return row_levels(n_vocab) * sizeof(uint16_t); }

// Tokens and rows. Below 2^50: n_ctx and n_vocab are at most 2^24.
size_t window_bytes(const ScoredWindows& windows) {
  return static_cast<size_t>(windows.n_ctx) * sizeof(int32_t) +
         static_cast<size_t>(windows.n_scored()) * row_bytes(windows.n_vocab);
}

}  // namespace

LogitsBaseWriter::LogitsBaseWriter(const std::filesystem::path& path, const ScoredWindows& windows,
                                   std::span<const int32_t> tokens)
    : file_(path, kHeadBytes + static_cast<size_t>(windows.n_windows) * window_bytes(windows)),
      row_(row_levels(windows.n_vocab), 0) {
  check(std::ssize(tokens) == windows.n_windows * windows.n_ctx, "a base holds the tokens of its windows");
  file_.write(kMagic);
  for (const int64_t value : {windows.n_ctx, windows.n_vocab, windows.n_windows}) {
    const auto number = static_cast<int32_t>(value);
    file_.write(std::as_bytes(std::span(&number, 1)));
  }
  file_.write(std::as_bytes(tokens));
}

void LogitsBaseWriter::add(std::span<const float> log_probs) {
  const auto [low, high] = std::ranges::minmax(log_probs);
  const float least = std::max(low, high - kRange);
  const float head[2] = {(high - least) / kLevels, least};
  std::memcpy(row_.data(), head, sizeof head);
  for (size_t i = 0; i < log_probs.size(); ++i) {
    const float above = head[0] > 0.0f ? std::max(0.0f, log_probs[i] - least) / head[0] : 0.0f;
    row_[kRowHead + i] = static_cast<uint16_t>(std::min(kLevels, std::nearbyint(above)));
  }
  file_.write(std::as_bytes(std::span(row_)));
}

LogitsBase::LogitsBase(const std::filesystem::path& path) : file_(path) {
  const auto bytes = file_.bytes();
  const std::string shown = printable(path.string(), 400);
  if (bytes.size() < kHeadBytes || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    fail(ErrorKind::bad_model, "{} holds no saved predictions: it does not begin with {}", shown, kMagic);
  int32_t numbers[3];
  std::memcpy(numbers, bytes.data() + kMagic.size(), sizeof numbers);
  windows_ = {.n_ctx = numbers[0], .n_vocab = numbers[1], .n_windows = numbers[2]};
  const bool is_sound = windows_.n_ctx >= 4 && windows_.n_ctx <= kMaxContext && windows_.n_vocab >= 1 &&
                        windows_.n_vocab <= kMaxVocab && windows_.n_windows >= 1;
  const size_t n_data = bytes.size() - kHeadBytes;
  if (!is_sound || n_data % window_bytes(windows_) != 0 ||
      n_data / window_bytes(windows_) != static_cast<size_t>(windows_.n_windows)) {
    fail(ErrorKind::bad_model,
         "{} has {} bytes, which do not fit {} windows of {} tokens with a vocabulary of {}", shown,
         bytes.size(), numbers[2], numbers[0], numbers[1]);
  }
  tokens_.resize(static_cast<size_t>(windows_.n_windows * windows_.n_ctx));
  std::memcpy(tokens_.data(), bytes.data() + kHeadBytes, tokens_.size() * sizeof(int32_t));
  for (const int32_t token : tokens_) {
    if (token >= 0 && token < windows_.n_vocab) continue;
    fail(ErrorKind::bad_model, "{} holds token {} of a vocabulary of {}", shown, token, windows_.n_vocab);
  }
  rows_begin_ = kHeadBytes + tokens_.size() * sizeof(int32_t);
}

void LogitsBase::read(int64_t window, int64_t i, std::span<float> out) const {
  const auto row = static_cast<size_t>(window * windows_.n_scored() + i);
  const std::byte* at = file_.bytes().data() + rows_begin_ + row * row_bytes(windows_.n_vocab);
  float head[2];
  std::memcpy(head, at, sizeof head);
  for (size_t k = 0; k < out.size(); ++k) {
    uint16_t level;
    std::memcpy(&level, at + sizeof head + k * sizeof level, sizeof level);
    out[k] = head[1] + head[0] * static_cast<float>(level);
    if (std::isfinite(out[k]) && out[k] < 1e-3f) continue;
    fail(ErrorKind::bad_model, "the saved predictions hold {} as the logarithm of a probability", out[k]);
  }
}

}  // namespace millrace
