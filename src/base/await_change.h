// Waiting for another thread that is about to be done: first by looking again, then asleep.
#pragma once

#include <atomic>

namespace millrace {

// Returns once `value` differs from `old`. Who changes it notifies.
template <class T>
void await_change(const std::atomic<T>& value, T old) {
  // 0.1 to 1 ms, as long as the processor's pause is (190 us on a Xeon of 2023): longer than the gap between
  // two ops, shorter than what a user would see as a busy idle program.
  constexpr int kSpins = 20000;
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace millrace
