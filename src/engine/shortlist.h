// What a step tells of a row of logits that is not read whole, and what it has to be asked.
#pragma once

#include <cstdint>
#include <span>

namespace millrace {

// So many of the largest logits of a row are read at most.
inline constexpr int64_t kShortlist = 128;

// What the backend is to find out of a row.
struct ShortlistWish {
  int64_t n_top = 0;         // of the largest logits, at least 1; 0: nothing, the row will be read
  float temperature = 0.0f;  // above 0: the sum of all weights, and a draw from all of them
  double uniform = 0.0;      // by which it draws
  bool is_draw = false;      // what it draws, or at no temperature the largest logit, is the token
};

struct Shortlist {
  std::span<const int32_t> tokens;  // of the largest logits, as TopLogits gives them
  std::span<const float> logits;
  int32_t drawn = -1;  // as DrawTokens gives them
  double sum = 0.0;
};

}  // namespace millrace
