// FeedTokens where the program sees the memory.
#pragma once

#include <algorithm>

#include "backend/ops.h"

namespace millrace {

inline void feed_tokens(const FeedTokens& op) {
  for (int64_t i = 0; i < op.tokens.dim(0); ++i) {
    int32_t& token = op.tokens.i32()[i];
    if (token >= 0) continue;
    const int64_t row = ~token;
    const int32_t likeliest = op.top.i32()[row * op.top.dim(1)], drawn = op.drawn ? op.drawn.i32()[row] : -1;
    token = std::max(0, drawn >= 0 ? drawn : likeliest);
  }
}

}  // namespace millrace
