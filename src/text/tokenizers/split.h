// Cutting a text into the pieces that a token model sees one by one: a chain of steps, each cuts what the
// step before it made. Nothing is stored between them: a piece goes down the whole chain before the next one
// is cut.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

struct TextPiece {
  std::string_view text;  // valid UTF-8
  bool is_first = false;  // it begins where the whole text begins
};

class PieceSink {
 public:
  virtual void take(TextPiece piece) = 0;

 protected:
  ~PieceSink() = default;
};

class SplitStep {
 public:
  virtual ~SplitStep() = default;
  // Gives the pieces of `piece` to `out`, in order. A step may change the text; what it gives out lives only
  // until take() returns. Empty pieces may be given; the chain drops them.
  virtual void split(TextPiece piece, PieceSink& out) const = 0;
};

using SplitSteps = std::vector<std::unique_ptr<SplitStep>>;

// Sends `piece` through all steps and what comes out to `out`.
void run_splits(const SplitSteps& steps, TextPiece piece, PieceSink& out);

// Where a pattern matches: at or after `from`. `begin` is past the end of the text where it does not.
struct Match {
  size_t begin, end;
};

// What becomes of the text that a pattern matches, next to the text between the matches.
enum class SplitBehavior { removed, isolated, contiguous, merged_with_previous, merged_with_next };

struct Span {
  size_t begin, end;
  bool is_match;
};
// Gives out the pieces that `spans`, which cover `piece`, make.
void give_spans(TextPiece piece, std::vector<Span> spans, SplitBehavior behavior, PieceSink& out);

// A step that cuts by a pattern. Scanner: Match next(std::string_view text, size_t from) const.
template <class Scanner>
class PatternSplit : public SplitStep {
 public:
  struct Options {
    SplitBehavior behavior = SplitBehavior::isolated;
    bool is_inverted = false;  // the text between the matches is what matches
  };
  PatternSplit(Scanner scanner, Options options) : scanner_(std::move(scanner)), options_(options) {}

  void split(TextPiece piece, PieceSink& out) const override {
    if (options_.behavior != SplitBehavior::isolated) {
      return give_spans(piece, spans_of(piece.text), options_.behavior, out);
    }
    each_span(piece.text, [&](Span span) {
      out.take({piece.text.substr(span.begin, span.end - span.begin), piece.is_first && span.begin == 0});
    });
  }

 private:
  template <class Give>
  void each_span(std::string_view text, Give&& give) const {
    size_t at = 0;  // all before it is given
    for (size_t from = 0; from < text.size();) {
      const Match match = scanner_.next(text, from);
      if (match.begin >= text.size()) break;
      if (at < match.begin) give(Span{at, match.begin, options_.is_inverted});
      if (match.begin < match.end) give(Span{match.begin, match.end, !options_.is_inverted});
      at = match.end;
      from = match.end > match.begin ? match.end : match.end + 1;  // an empty match cuts, and moves on
      while (from < text.size() && (static_cast<uint8_t>(text[from]) & 0xc0) == 0x80) ++from;
    }
    if (at < text.size()) give(Span{at, text.size(), options_.is_inverted});
  }

  std::vector<Span> spans_of(std::string_view text) const {
    std::vector<Span> spans;
    each_span(text, [&](Span span) { spans.push_back(span); });
    return spans;
  }

  Scanner scanner_;
  Options options_;
};

}  // namespace millrace
