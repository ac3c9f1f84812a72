// Memory of the CPU backend between ops: activations as int8, routes, one private piece for each thread. It
// grows to what the largest op so far needed and is then kept: nothing is allocated in a steady state.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace millrace::cpu {

// A vector that only grows; its content does not survive a call to take().
template <class T>
class Scratch {
 public:
  T* take(int64_t n) {
    if (static_cast<int64_t>(memory_.size()) < n) memory_ = std::vector<T>(static_cast<size_t>(n));
    return memory_.data();
  }

 private:
  std::vector<T> memory_;
};

}  // namespace millrace::cpu
