// Steps that a device has recorded (a CUDA graph each), by their shape. A step of many small kernels is given
// to the device at once, where giving it kernel by kernel may take longer than computing them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "backend/backend.h"

namespace millrace {

// Of steps in which every sequence has one row: all that their ops and operands follow from.
struct StepShape {
  int64_t n_rows, n_pages;  // n_pages: of a page table
  bool operator<(const StepShape& other) const {
    return std::pair(n_rows, n_pages) < std::pair(other.n_rows, other.n_pages);
  }

  // The least shape that is recorded for such a step, within `most`: some rows are as good as a few more.
  static StepShape holding(const StepShape& step, const StepShape& most);
};

class RecordedSteps {
 public:
  // They take memory of the device: beyond so many, the one that was not run for longest goes.
  static constexpr size_t kMost = 32;

  // `backend` must outlive it.
  explicit RecordedSteps(Backend& backend, size_t n_most = kMost) : backend_(backend), n_most_(n_most) {}

  // What `forward` returns, which runs the same ops on the same operands whenever it has this shape: the
  // first time it is run, the second time recorded.
  Tensor run(const StepShape& shape, const std::function<Tensor()>& forward);

 private:
  struct Step {
    Tensor result;
    std::unique_ptr<Backend::Recording> recording;
    bool can_record = true;
    int64_t last_run = 0;
  };
  void record(const StepShape& shape, Step& step, const std::function<Tensor()>& forward);
  void forget_oldest();

  Backend& backend_;
  size_t n_most_;
  std::map<StepShape, Step> steps_;
  int64_t n_runs_ = 0;
};

}  // namespace millrace
