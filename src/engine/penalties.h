// What a history does to the next logits: repetition, presence and frequency penalties, and DRY.
#pragma once

#include <cstdint>
#include <span>

#include "engine/request.h"

namespace millrace {

// Whether either of the following does anything.
bool has_penalties(const Sampling& sampling);

// Repetition (Keskar et al. 2019), presence and frequency (as OpenAI defines them) over the last
// penalty_last_n tokens.
void apply_penalties(std::span<float> logits, std::span<const int32_t> history, const Sampling& sampling);

// DRY ("don't repeat yourself", p-e-w 2024): a token that would continue a repetition of length n loses
// dry_multiplier * dry_base^(n - dry_allowed_length) where n >= dry_allowed_length. Repetitions do not reach
// over a breaker, and a token that is a breaker itself loses nothing. Linear in the history.
void apply_dry(std::span<float> logits, std::span<const int32_t> history, const Sampling& sampling);

}  // namespace millrace
