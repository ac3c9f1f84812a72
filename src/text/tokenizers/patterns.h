// From a pattern, as tokenizer.json writes it, to the step that splits by it.
#pragma once

#include <memory>
#include <string_view>

#include "text/tokenizers/split.h"

namespace millrace {

struct PatternOptions {
  SplitBehavior behavior = SplitBehavior::isolated;
  bool is_inverted = false;
};

// A scanner where one knows exactly this pattern, else PCRE2.
// Throws Error(bad_model) for a pattern that is not understood.
std::unique_ptr<SplitStep> make_pattern_split(std::string_view pattern, PatternOptions options = {});

// Splits by a string that stands for itself.
std::unique_ptr<SplitStep> make_text_split(std::string_view text, PatternOptions options = {});

template <class Scanner>
std::unique_ptr<SplitStep> make_split(Scanner scanner, PatternOptions options = {}) {
  return std::make_unique<PatternSplit<Scanner>>(
      std::move(scanner), typename PatternSplit<Scanner>::Options{.behavior = options.behavior,
                                                                  .is_inverted = options.is_inverted});
}

// The patterns by which GGUF's pre-tokenizers are described.
namespace patterns {
extern const char* const kGpt2;
extern const char* const kCl100k;  // Llama 3: numbers of up to three digits
extern const char* const kQwen2;   // one digit
extern const char* const kQwen35;  // marks in words
extern const char* const kO200k;   // gpt-4o
extern const char* const kTekken;
extern const char* const kDeepseekMain;  // the third of DeepSeek V3
extern const char* const kDeepseekCjk;   // the second
extern const char* const kKimi;
}  // namespace patterns

}  // namespace millrace
