// What a step tells of a row of logits that is not read whole, and what it has to be asked.
#pragma once

#include <cstdint>
#include <span>

#include "backend/token_truncation.h"

namespace millrace {

// So many of the largest logits of a row are read at most.
inline constexpr int64_t kShortlist = 128;

// What the backend is to find out of a row.
struct ShortlistWish {
  int64_t n_top = 0;         // of the largest logits, at least 1; 0: nothing, the row will be read
  float temperature = 0.0f;  // above 0: a draw, and the sum of all weights where the truncation needs it
  Truncation truncation{};
  double uniform = 0.0;  // by which it draws
  bool is_draw = false;  // what it draws, or at no temperature the largest logit, is the token

  // Whether that is known before: top_p and min_p alone may reach further than the largest logits.
  bool is_sure_draw() const { return is_draw && (truncation.top_k > 0 || truncation.keeps_all()); }
};

struct Shortlist {
  std::span<const int32_t> tokens;  // of the largest logits, as TopLogits gives them
  std::span<const float> logits;
  int32_t drawn = -1;  // as DrawTokens gives them
  double sum = 0.0;
};

}  // namespace millrace
