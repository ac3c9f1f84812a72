// Whether ranks hear from each other, found out before they compute.
#pragma once

#include <chrono>
#include <vector>

#include "backend/ranks/collective.h"
#include "backend/ranks/workers.h"

namespace millrace::ranks {

// Gathers the numbers of the ranks. `memories`: of each. Throws Error(runtime) where that fails, is not done
// within `limit`, or gives anything else.
void gather_first(Collective& collective, const std::vector<Memory*>& memories, Workers& workers,
                  std::chrono::milliseconds limit = std::chrono::minutes(1));

}  // namespace millrace::ranks
