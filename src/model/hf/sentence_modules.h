// What sentence-transformers keeps beside a checkpoint: the steps from rows to an embedding.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "model/pooling.h"

namespace millrace {

struct SentenceModules {
  std::optional<Pooling> pooling;
  std::vector<std::filesystem::path> dense;  // folders of the projections after it, in their order
};

// From modules.json and the files it names; nothing where there is none. Throws Error(bad_model) for a step
// that is not implemented.
SentenceModules read_sentence_modules(const std::filesystem::path& folder);

}  // namespace millrace
