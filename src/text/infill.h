// Prompts of models that were trained to fill in what is missing between two texts ("fill in the middle",
// Bavarian et al. 2022).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace millrace {

struct InfillText {
  std::string prefix, suffix;
  std::string begun;  // of what is missing
  struct File {
    std::string name, text;
  };
  std::vector<File> files;  // more of the project, for context
};

struct InfillPrompt {
  std::vector<int32_t> ids;
  std::vector<int32_t> end_tokens;  // end what is filled in, besides those of any answer
};

// Nothing where the vocabulary has none of the control tokens that such a model knows.
std::optional<InfillPrompt> encode_infill(const Tokenizer& tokenizer, const InfillText& text);

}  // namespace millrace
