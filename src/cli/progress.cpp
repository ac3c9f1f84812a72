#include "cli/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "cli/standard_input.h"

namespace millrace {

ProgressBar::ProgressBar(std::string what, int64_t n_total)
    : what_(std::move(what)),
      n_total_(std::max<int64_t>(1, n_total)),
      is_shown_(is_terminal(STDERR_FILENO)) {}

void ProgressBar::advance(int64_t n_done) {
  const auto now = std::chrono::steady_clock::now();
  if (!is_shown_ || now < next_) return;
  next_ = now + std::chrono::milliseconds(100);
  constexpr int kWidth = 30;
  const auto n_full = static_cast<size_t>(std::clamp<int64_t>(kWidth * n_done / n_total_, 0, kWidth));
  fmt::print(stderr, "\r{} [{}{}] {}%\x1b[K", what_, std::string(n_full, '='),
             std::string(kWidth - n_full, ' '), 100 * n_done / n_total_);
}

void ProgressBar::finish() {
  if (is_shown_ && next_ != std::chrono::steady_clock::time_point()) fmt::print(stderr, "\r\x1b[K");
  is_shown_ = false;
}

}  // namespace millrace
