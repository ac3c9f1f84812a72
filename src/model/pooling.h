// How the rows of a text become its embedding.
#pragma once

#include <optional>
#include <string_view>

namespace millrace {

// The numbers are those of GGUF's pooling_type.
enum class Pooling {
  none = 0,  // every position keeps an embedding of its own
  mean = 1,  // the mean of all positions
  cls = 2,   // the first position
  last = 3,  // the last position
  rank = 4,  // the first position, through the classification head: scores of a reranker
};

std::string_view name_of(Pooling pooling);  // "none", "mean", ...
std::optional<Pooling> pooling_of_name(std::string_view name);

}  // namespace millrace
