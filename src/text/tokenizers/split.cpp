#include "text/tokenizers/split.h"

#include <algorithm>
#include <span>

namespace millrace {
namespace {

// One step and where its pieces go.
class Link final : public PieceSink {
 public:
  Link(std::span<const std::unique_ptr<SplitStep>> steps, PieceSink& out) : steps_(steps), out_(out) {}

  void take(TextPiece piece) override {
    if (piece.text.empty()) return;
    if (steps_.empty()) return out_.take(piece);
    Link next(steps_.subspan(1), out_);
    steps_[0]->split(piece, next);
  }

 private:
  std::span<const std::unique_ptr<SplitStep>> steps_;
  PieceSink& out_;
};

// Joins neighbours of which both match or neither does.
std::vector<Span> joined_runs(std::vector<Span> spans) {
  std::vector<Span> out;
  for (const Span& span : spans) {
    if (!out.empty() && out.back().is_match == span.is_match) {
      out.back().end = span.end;
    } else {
      out.push_back(span);
    }
  }
  return out;
}

// A match joins the span before it, unless that is a match as well.
std::vector<Span> joined_to_previous(const std::vector<Span>& spans) {
  std::vector<Span> out;
  bool was_match = false;
  for (const Span& span : spans) {
    if (span.is_match && !was_match && !out.empty()) {
      out.back().end = span.end;
    } else {
      out.push_back(span);
    }
    was_match = span.is_match;
  }
  return out;
}

// The same from the other side.
std::vector<Span> joined_to_next(const std::vector<Span>& spans) {
  std::vector<Span> out;
  bool was_match = false;
  for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
    if (span->is_match && !was_match && !out.empty()) {
      out.back().begin = span->begin;
    } else {
      out.push_back(*span);
    }
    was_match = span->is_match;
  }
  std::ranges::reverse(out);
  return out;
}

}  // namespace

void run_splits(const SplitSteps& steps, TextPiece piece, PieceSink& out) { Link(steps, out).take(piece); }

void give_spans(TextPiece piece, std::vector<Span> spans, SplitBehavior behavior, PieceSink& out) {
  switch (behavior) {
    case SplitBehavior::isolated:
      break;
    case SplitBehavior::removed:
      std::erase_if(spans, [](const Span& span) { return span.is_match; });
      break;
    case SplitBehavior::contiguous:
      spans = joined_runs(std::move(spans));
      break;
    case SplitBehavior::merged_with_previous:
      spans = joined_to_previous(spans);
      break;
    case SplitBehavior::merged_with_next:
      spans = joined_to_next(spans);
      break;
  }
  for (const Span& span : spans) {
    out.take({piece.text.substr(span.begin, span.end - span.begin), piece.is_first && span.begin == 0});
  }
}

}  // namespace millrace
