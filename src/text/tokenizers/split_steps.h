// The steps of tokenizer.json's pre-tokenizers that are not patterns.
#pragma once

#include <memory>
#include <string>

#include "text/tokenizers/patterns.h"

namespace millrace::splits {

using Step = std::unique_ptr<SplitStep>;

// A space before a text that does not begin with one.
Step space_before();
// The text in the byte-level alphabet, and back to bytes.
Step to_bytes();
Step from_bytes();
// Every space becomes `mark`, one is put before the text, and the text is cut before each.
enum class Prepend { never, first, always };
struct Metaspace {
  std::string mark;
  Prepend prepend = Prepend::always;
  bool is_cut = true;
};
Step metaspace(Metaspace options);
Step white_space(SplitBehavior behavior);
Step punctuation(SplitBehavior behavior);  // ASCII's and Unicode's
Step digits(bool one_by_one);
Step words();  // runs of \w and runs of what is neither that nor white space
// Runs of `n` characters.
Step fixed_length(size_t n);

}  // namespace millrace::splits
