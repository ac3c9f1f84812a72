// From the spellings of tokens back to text. A list of steps over a list of strings, as tokenizer.json
// describes it; GGUF's kinds are such lists too.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

class DecoderStep {
 public:
  virtual ~DecoderStep() = default;
  // All tokens of a sequence.
  virtual void decode(std::vector<std::string>& tokens) const = 0;
  // One token of a stream: as decode(), without what depends on the neighbours or on the place.
  virtual void decode_one(std::string& token) const = 0;
};

using DecoderSteps = std::vector<std::unique_ptr<DecoderStep>>;

namespace decoders {

using Step = std::unique_ptr<DecoderStep>;

Step byte_level();
// Runs of tokens <0x0A>: their bytes, or U+FFFD for each where these are no valid text.
Step byte_fallback();
Step fuse();
Step replace(std::string text, std::string by);
// Throws Error(bad_model) for a pattern that is not understood.
Step replace_pattern(std::string_view pattern, std::string by);
// Up to `n_start` and `n_stop` characters `content` off the ends of every token.
Step strip(std::string content, size_t n_start, size_t n_stop);
// `mark` is a space; at the very beginning it is nothing where `drops_first`.
Step metaspace(std::string mark, bool drops_first);
Step wordpiece(std::string prefix, bool cleans_up);
Step bpe(std::string suffix);
Step ctc(std::string pad, std::string delimiter, bool cleans_up);

}  // namespace decoders
}  // namespace millrace
