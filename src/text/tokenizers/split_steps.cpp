#include "text/tokenizers/split_steps.h"

#include "text/tokenizers/byte_level.h"
#include "text/tokenizers/scanners.h"

namespace millrace::splits {
namespace {

class SpaceBefore final : public SplitStep {
 public:
  void split(TextPiece piece, PieceSink& out) const override {
    if (piece.text.starts_with(' ')) return out.take(piece);
    std::string text = " ";
    text += piece.text;
    out.take({text, piece.is_first});
  }
};

class ToBytes final : public SplitStep {
 public:
  void split(TextPiece piece, PieceSink& out) const override {
    const std::string text = to_byte_level(piece.text);
    out.take({text, piece.is_first});
  }
};

class FromBytes final : public SplitStep {
 public:
  void split(TextPiece piece, PieceSink& out) const override {
    std::string bytes;
    out.take(append_from_byte_level(bytes, piece.text) ? TextPiece{bytes, piece.is_first} : piece);
  }
};

class MetaspaceStep final : public SplitStep {
 public:
  explicit MetaspaceStep(Metaspace options)
      : options_(std::move(options)),
        cut_(make_text_split(options_.mark, {.behavior = SplitBehavior::merged_with_next})) {}

  void split(TextPiece piece, PieceSink& out) const override {
    std::string text;
    const bool is_marked = piece.text.starts_with(' ') || piece.text.starts_with(options_.mark);
    const bool is_wanted =
        options_.prepend == Prepend::always || (options_.prepend == Prepend::first && piece.is_first);
    if (is_wanted && !is_marked) text += options_.mark;
    for (const char c : piece.text) {
      if (c == ' ') {
        text += options_.mark;
      } else {
        text += c;
      }
    }
    const TextPiece marked{text, piece.is_first};
    if (options_.is_cut) return cut_->split(marked, out);
    out.take(marked);
  }

 private:
  Metaspace options_;
  Step cut_;
};

// One character for which a test holds.
template <bool (*kTest)(uint32_t)>
struct CharScanner : ScanFrom<CharScanner<kTest>> {
  size_t end_of(std::string_view text, size_t at) const {
    const Look c = look(text, at);
    return kTest(c.code_point) ? at + static_cast<size_t>(c.n_bytes) : at;
  }
};

bool is_punctuation(uint32_t c) { return is_in(c, kPunctuation) || (c < 0x80 && is_in(c, kSymbol)); }
bool is_number(uint32_t c) { return is_in(c, kNumber); }

struct WordScanner : ScanFrom<WordScanner> {
  enum class Kind { space, word, other };
  static Kind kind_of(const Look& c) {
    if (is_word(c.code_point)) return Kind::word;
    return c.is(kWhiteSpace) ? Kind::space : Kind::other;
  }
  size_t end_of(std::string_view text, size_t at) const {
    Look c = look(text, at);
    const Kind kind = kind_of(c);
    if (kind == Kind::space) return at;
    for (; !c.is_end() && kind_of(c) == kind; c = look(text, at)) at += static_cast<size_t>(c.n_bytes);
    return at;
  }
};

struct LengthScanner : ScanFrom<LengthScanner> {
  size_t n = 1;
  size_t end_of(std::string_view text, size_t at) const {
    for (size_t i = 0; i < n && at < text.size(); ++i) at += static_cast<size_t>(look(text, at).n_bytes);
    return at;
  }
};

}  // namespace

Step space_before() { return std::make_unique<SpaceBefore>(); }
Step to_bytes() { return std::make_unique<ToBytes>(); }
Step from_bytes() { return std::make_unique<FromBytes>(); }
Step metaspace(Metaspace options) { return std::make_unique<MetaspaceStep>(std::move(options)); }
Step white_space(SplitBehavior behavior) {
  return make_split(CharScanner<is_white_space>(), {.behavior = behavior});
}
Step punctuation(SplitBehavior behavior) {
  return make_split(CharScanner<is_punctuation>(), {.behavior = behavior});
}
Step digits(bool one_by_one) {
  return make_split(CharScanner<is_number>(),
                    {.behavior = one_by_one ? SplitBehavior::isolated : SplitBehavior::contiguous});
}
Step words() { return make_split(WordScanner(), {.behavior = SplitBehavior::removed, .is_inverted = true}); }
Step fixed_length(size_t n) {
  LengthScanner scanner;
  scanner.n = n;
  return make_split(scanner);
}

}  // namespace millrace::splits
