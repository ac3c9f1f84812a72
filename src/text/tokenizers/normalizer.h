// What is done to a text before it is cut: Unicode normal forms, case, replacements. A list of steps.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizers/byte_trie.h"
#include "text/tokenizers/precompiled_charsmap.h"
#include "text/unicode.h"

namespace millrace {

class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  // Writes the new text to `out`, which is empty, or leaves it so and returns false where nothing changes.
  // `text` is valid UTF-8, and so is what is written.
  virtual bool apply(std::string_view text, std::string& out) const = 0;
};

using NormalizerSteps = std::vector<std::unique_ptr<NormalizerStep>>;

// `text` after all steps: itself or `buffer`.
std::string_view run_normalizers(const NormalizerSteps& steps, std::string_view text, std::string& buffer);

namespace normalizers {

using Step = std::unique_ptr<NormalizerStep>;

Step unicode_form(NormalForm form);
Step lowercase();
Step replace(std::string text, std::string by);  // every occurrence
// Throws Error(bad_model) for a pattern that is not understood.
Step replace_pattern(std::string_view pattern, std::string by);
Step prepend(std::string text);  // nothing to an empty text
enum class Sides { left, right, both };
Step strip(Sides sides);
Step strip_accents();  // all marks
struct Bert {
  bool cleans_text = true;     // no control characters, every white space a space
  bool spaces_chinese = true;  // spaces around CJK ideographs
  bool strips_accents = true;  // no nonspacing marks, after NFD
  bool lowercases = true;
};
Step bert(Bert options);
Step nmt();
Step byte_level();
// As the Rust library applies a charsmap: cluster by cluster.
Step precompiled(std::shared_ptr<const PrecompiledCharsmap> charsmap);  // shared: see sentence_piece()

// As SentencePiece itself prepares a text: the charsmap at every place, then spaces.
struct SentencePiece {
  std::shared_ptr<const PrecompiledCharsmap> charsmap;  // may be null
  ByteTrie kept;               // user-defined tokens, which the charsmap leaves alone
  bool merges_spaces = false;  // no space at the ends and never two
  bool prepends_space = true;
  bool marks_spaces = true;  // U+2581 for each
};
Step sentence_piece(SentencePiece options);

}  // namespace normalizers
}  // namespace millrace
