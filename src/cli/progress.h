// A progress bar on standard error: only where that is a terminal, redrawn at most ten times a second.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace millrace {

class ProgressBar {
 public:
  ProgressBar(std::string what, int64_t n_total);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar() { finish(); }

  void set_total(int64_t n_total) { n_total_ = n_total; }
  void advance(int64_t n_done);
  // Takes the bar away.
  void finish();

 private:
  std::string what_;
  int64_t n_total_;
  bool is_shown_;
  std::chrono::steady_clock::time_point next_{};
};

}  // namespace millrace
