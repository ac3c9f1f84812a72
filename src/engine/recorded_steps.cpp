#include "engine/recorded_steps.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "base/log.h"

namespace millrace {
namespace {

constexpr int64_t kRun = 32;  // rows that a step is filled up to a multiple of, where it has more

int64_t power_of_two(int64_t n) { return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(n))); }

}  // namespace

StepShape StepShape::holding(const StepShape& step, const StepShape& most) {
  const int64_t n_rows =
      step.n_rows <= kRun ? power_of_two(step.n_rows) : (step.n_rows + kRun - 1) / kRun * kRun;
  return {std::min(n_rows, most.n_rows), std::min(power_of_two(step.n_pages), most.n_pages)};
}

Tensor RecordedSteps::run(const StepShape& shape, const std::function<Tensor()>& forward) {
  Step& step = steps_[shape];
  if (step.last_run == 0) {
    step.result = forward();
  } else if (step.recording == nullptr || !step.recording->run()) {
    step.recording.reset();  // first give back, then take
    if (step.can_record) record(shape, step, forward);
    if (step.recording == nullptr) step.result = forward();
  }
  step.last_run = ++n_runs_;
  const Tensor result = step.result;
  if (steps_.size() > n_most_) forget_oldest();
  return result;
}

// Without a recording all goes on, only slower: a device may lack the memory for one.
void RecordedSteps::record(const StepShape& shape, Step& step, const std::function<Tensor()>& forward) {
  try {
    step.recording = backend_.record([&] { step.result = forward(); });
    check(step.recording->run(), "what was just recorded can be run");
  } catch (const Error& error) {
    step.recording.reset();
    step.can_record = false;
    log_warning("steps of {} rows and {} pages are run op by op, they could not be recorded: {}",
                shape.n_rows, shape.n_pages, error.what());
  }
}

void RecordedSteps::forget_oldest() {
  steps_.erase(std::ranges::min_element(steps_, {}, [](const auto& each) { return each.second.last_run; }));
}

}  // namespace millrace
