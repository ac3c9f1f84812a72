// What a pair of texts is framed by, part by part.
#pragma once

#include <cstdint>
#include <vector>

namespace millrace {

struct PairPart {
  enum class Kind { token, first_text, second_text };
  Kind kind;
  int32_t token = -1;
  int32_t type = 0;  // the segment of what it becomes
};

// [CLS] first [SEP] second [SEP]: the second text is a segment of its own.
inline std::vector<PairPart> bert_pair(int32_t cls, int32_t separator) {
  using enum PairPart::Kind;
  return {{token, cls, 0}, {first_text}, {token, separator, 0}, {second_text, -1, 1}, {token, separator, 1}};
}

// <s> first </s></s> second </s>: one segment.
inline std::vector<PairPart> roberta_pair(int32_t cls, int32_t separator) {
  using enum PairPart::Kind;
  return {{token, cls},       {first_text},  {token, separator},
          {token, separator}, {second_text}, {token, separator}};
}

}  // namespace millrace
