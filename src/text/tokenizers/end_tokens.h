// The tokens that end an answer. Files name one or two; the others are known by their texts.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "text/tokenizers/vocabulary.h"

namespace millrace {

// `named`: what the file says (end of sequence, of turn, of message). Ascending, without repetition.
std::vector<int32_t> find_end_tokens(const Vocabulary& vocabulary,
                                     std::span<const std::optional<int32_t>> named);

}  // namespace millrace
