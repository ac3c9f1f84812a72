// How long work on a checkpoint tells how far it is.
#pragma once

#include <cstdint>
#include <functional>

namespace millrace {

// Bytes done, of all.
using Progress = std::function<void(int64_t n_done, int64_t n_total)>;

}  // namespace millrace
