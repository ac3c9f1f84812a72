// What opening a checkpoint does not look at, because it would read every byte: the weights themselves.
#pragma once

#include "checkpoint/checkpoint.h"
#include "checkpoint/progress.h"

namespace millrace {

// Throws Error(bad_model), naming the tensor and the row, where a plain value or the scale of a block is NaN
// or infinite. Reads the whole checkpoint once; `progress` (may be empty) is called every few MiB.
void check_weights(const Checkpoint& checkpoint, const Progress& progress);

}  // namespace millrace
