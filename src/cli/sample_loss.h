// What a model loses against the one it was made from, on a sample.
#pragma once

#include <span>
#include <string_view>

#include "cli/loaded_model.h"
#include "engine/divergence.h"

namespace millrace {

// Prose, dialogue, numbers and code: a little of what models are asked for.
extern const std::string_view kSampleText;

// Compares the predictions at every position of `tokens`, in windows. Throws Error(usage) for ids outside of
// the vocabulary.
Divergence divergence_on(std::span<const int32_t> tokens, LoadedModel& before, LoadedModel& after,
                         const ComputeOptions& compute);

}  // namespace millrace
