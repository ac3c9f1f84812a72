// The parts of a tokenizer.json that are lists of steps: normalizer, pre_tokenizer, post_processor, decoder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/tokenizers/decoder.h"
#include "text/tokenizers/normalizer.h"
#include "text/tokenizers/pair_part.h"
#include "text/tokenizers/split.h"
#include "text/tokenizers/vocabulary.h"

namespace millrace {

// All throw Error(bad_model) for what is not known or not whole. A null part is an empty one.
NormalizerSteps make_normalizers(const Json* part);

struct JsonSplits {
  SplitSteps steps;
  bool gives_bytes =
      false;  // pieces are raw bytes, and the vocabulary is to be read in the byte-level alphabet
};
// `wants_bytes`: the model (BPE) can take raw bytes; others are given the byte-level alphabet as it is.
JsonSplits make_splits(const Json* part, const Json* normalizer, bool wants_bytes);

struct JsonTemplate {
  std::vector<int32_t> prefix, suffix;
  std::vector<PairPart> pair;
};
JsonTemplate make_template(const Json* part, const Vocabulary& vocabulary);

DecoderSteps make_decoders(const Json* part);

// Members with defaults; null counts as missing.
bool json_bool(const Json& object, std::string_view key, bool otherwise);
std::string json_string(const Json& object, std::string_view key, std::string_view otherwise);
int64_t json_size(const Json& object, std::string_view key, int64_t otherwise);  // not negative

}  // namespace millrace
