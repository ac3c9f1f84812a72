#include "text/tokenizers/normalizer.h"

#include "text/tokenizers/byte_level.h"
#include "text/tokenizers/regex_scanner.h"

namespace millrace {

std::string_view run_normalizers(const NormalizerSteps& steps, std::string_view text, std::string& buffer) {
  std::string next;
  for (const auto& step : steps) {
    next.clear();
    if (!step->apply(text, next)) continue;
    buffer.swap(next);
    text = buffer;
  }
  return text;
}

namespace normalizers {
namespace {

template <class Apply>
class FunctionStep final : public NormalizerStep {
 public:
  explicit FunctionStep(Apply apply) : apply_(std::move(apply)) {}
  bool apply(std::string_view text, std::string& out) const override { return apply_(text, out); }

 private:
  Apply apply_;
};

template <class Apply>
Step step(Apply apply) {
  return std::make_unique<FunctionStep<Apply>>(std::move(apply));
}

// A step that looks at one character after the other: put(code_point, out).
template <class Put>
Step each_char(Put put) {
  return step([put](std::string_view text, std::string& out) {
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
      const Utf8Char c = next_utf8(text, at);
      put(c.code_point, out);
      at += static_cast<size_t>(c.n_bytes);
    }
    return true;
  });
}

// The Unicode block, with the one range that the original writes otherwise.
bool is_chinese(uint32_t c) {
  const auto between = [c](uint32_t low, uint32_t high) { return c >= low && c <= high; };
  return between(0x4e00, 0x9fff) || between(0x3400, 0x4dbf) || between(0x20000, 0x2a6df) ||
         between(0x2a700, 0x2b73f) || between(0x2b740, 0x2b81f) || between(0x2b920, 0x2ceaf) ||
         between(0xf900, 0xfaff) || between(0x2f800, 0x2fa1f);
}

void append_clean(std::string& out, uint32_t c) {
  constexpr CharSet kOther = set_of(Category::Cc, Category::Cf, Category::Co, Category::Cs);
  const bool is_space = c == '\t' || c == '\n' || c == '\r' || is_white_space(c);
  const bool is_control = c == 0 || c == 0xfffd || (is_in(c, kOther) && c != '\t' && c != '\n' && c != '\r');
  if (is_control) return;
  append_utf8(out, is_space ? ' ' : c);
}

void append_bert(std::string& out, uint32_t c, const Bert& options) {
  if (options.spaces_chinese && is_chinese(c)) {
    out += ' ';
    append_utf8(out, c);
    out += ' ';
  } else if (options.cleans_text) {
    append_clean(out, c);
  } else {
    append_utf8(out, c);
  }
}

std::string map_chars(std::string_view text, const auto& put) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = next_utf8(text, at);
    put(out, c.code_point);
    at += static_cast<size_t>(c.n_bytes);
  }
  return out;
}

bool is_dropped_by_nmt(uint32_t c) {
  return (c >= 0x1 && c <= 0x8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
}

bool is_space_for_nmt(uint32_t c) {
  return c == 0x9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
         c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
}

std::string_view without_spaces(std::string_view text, Sides sides) {
  if (sides != Sides::right) {
    while (!text.empty()) {
      const Utf8Char c = next_utf8(text, 0);
      if (!is_white_space(c.code_point)) break;
      text.remove_prefix(static_cast<size_t>(c.n_bytes));
    }
  }
  if (sides != Sides::left) {
    while (!text.empty()) {
      size_t at = text.size() - 1;
      while (at > 0 && (static_cast<uint8_t>(text[at]) & 0xc0) == 0x80) --at;
      if (!is_white_space(next_utf8(text, at).code_point)) break;
      text = text.substr(0, at);
    }
  }
  return text;
}

// The text at `at` as the charsmap has it, and how much of the text that was.
struct Mapped {
  std::string_view text;
  size_t n_bytes;
};
Mapped mapped_at(std::string_view text, size_t at, const SentencePiece& options) {
  size_t n_kept = 0;
  options.kept.walk(text, at, [&](size_t n_bytes, int32_t) { n_kept = n_bytes; });
  if (n_kept > 0) return {text.substr(at, n_kept), n_kept};
  if (options.charsmap != nullptr) {
    const auto found = options.charsmap->longest(text.substr(at));
    if (found.n_bytes > 0) return {found.replacement, found.n_bytes};
  }
  const auto n_bytes = static_cast<size_t>(next_utf8(text, at).n_bytes);
  return {text.substr(at, n_bytes), n_bytes};
}

class SpaceWriter {
 public:
  SpaceWriter(std::string& out, const SentencePiece& options) : out_(out), options_(options) {}

  void put(char c) {
    if (!has_begun_ && !options_.merges_spaces) begin_word();
    if (c != ' ') {
      const bool begins_word = !is_in_word_;
      is_in_word_ = true;
      if (begins_word) begin_word();
      out_ += c;
    } else {
      is_in_word_ = false;
      if (!options_.merges_spaces) put_space();
    }
  }

 private:
  void begin_word() {
    const bool is_first = !has_begun_;
    has_begun_ = true;
    if (is_first ? options_.prepends_space : options_.merges_spaces) put_space();
  }
  void put_space() {
    out_ += options_.marks_spaces ? std::string_view("\xe2\x96\x81") : std::string_view(" ");
  }

  std::string& out_;
  const SentencePiece& options_;
  bool is_in_word_ = false;
  bool has_begun_ = false;
};

}  // namespace

Step unicode_form(NormalForm form) {
  return step([form](std::string_view text, std::string& out) {
    if (form == NormalForm::nfc ? is_surely_nfc(text) : ascii_run(text, 0) == text.size()) return false;
    out = normalize(text, form);
    return true;
  });
}

Step lowercase() {
  return each_char([](uint32_t c, std::string& out) { append_lower(out, c); });
}

Step replace(std::string from, std::string by) {
  return step([from = std::move(from), by = std::move(by)](std::string_view text, std::string& out) {
    size_t found = from.empty() ? std::string_view::npos : text.find(from);
    if (found == std::string_view::npos) return false;
    out.reserve(text.size() + text.size() / 2);
    size_t at = 0;
    for (; found != std::string_view::npos; found = text.find(from, at)) {
      out.append(text.substr(at, found - at)).append(by);
      at = found + from.size();
    }
    out.append(text.substr(at));
    return true;
  });
}

Step replace_pattern(std::string_view pattern, std::string by) {
  return step([scanner = RegexScanner(pattern), by = std::move(by)](std::string_view text, std::string& out) {
    size_t at = 0;
    for (size_t from = 0; from < text.size();) {
      const Match match = scanner.next(text, from);
      if (match.begin >= text.size()) break;
      out.append(text.substr(at, match.begin - at)).append(by);
      at = match.end;
      from = match.end > match.begin ? match.end
                                     : match.end + static_cast<size_t>(next_utf8(text, match.end).n_bytes);
    }
    if (at == 0 && out.empty()) return false;
    out.append(text.substr(at));
    return true;
  });
}

Step prepend(std::string prefix) {
  return step([prefix = std::move(prefix)](std::string_view text, std::string& out) {
    if (text.empty() || prefix.empty()) return false;
    out.reserve(prefix.size() + text.size());
    out.append(prefix).append(text);
    return true;
  });
}

Step strip(Sides sides) {
  return step([sides](std::string_view text, std::string& out) {
    const std::string_view kept = without_spaces(text, sides);
    if (kept.size() == text.size()) return false;
    out = kept;
    return true;
  });
}

Step strip_accents() {
  return each_char([](uint32_t c, std::string& out) {
    if (!is_in(c, kMark)) append_utf8(out, c);
  });
}

Step bert(Bert options) {
  return step([options](std::string_view text, std::string& out) {
    out = map_chars(text, [&](std::string& o, uint32_t c) { append_bert(o, c, options); });
    if (options.strips_accents) {
      const std::string decomposed = normalize(out, NormalForm::nfd);
      out = map_chars(decomposed, [](std::string& o, uint32_t c) {
        if (category_of(c) != Category::Mn) append_utf8(o, c);
      });
    }
    if (options.lowercases) out = map_chars(out, append_lower);
    return true;
  });
}

Step nmt() {
  return each_char([](uint32_t c, std::string& out) {
    if (!is_dropped_by_nmt(c)) append_utf8(out, is_space_for_nmt(c) ? ' ' : c);
  });
}

Step byte_level() {
  return step([](std::string_view text, std::string& out) {
    out = to_byte_level(text);
    return true;
  });
}

Step precompiled(std::shared_ptr<const PrecompiledCharsmap> charsmap) {
  return step([charsmap = std::move(charsmap)](std::string_view text, std::string& out) {
    constexpr size_t kMaxCluster = 6;  // longer ones are mapped character by character
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
      const size_t end = grapheme_end(text, at);
      const std::string_view cluster = text.substr(at, end - at);
      const auto whole =
          cluster.size() < kMaxCluster ? charsmap->shortest(cluster) : PrecompiledCharsmap::Found{};
      if (whole.n_bytes > 0) {
        out += whole.replacement;
        at = end;
        continue;
      }
      while (at < end) {
        const auto n_bytes = static_cast<size_t>(next_utf8(text, at).n_bytes);
        const auto found = charsmap->shortest(text.substr(at, n_bytes));
        out += found.n_bytes > 0 ? found.replacement : text.substr(at, n_bytes);
        at += n_bytes;
      }
    }
    return true;
  });
}

Step sentence_piece(SentencePiece options) {
  return step([options = std::move(options)](std::string_view text, std::string& out) {
    out.reserve(text.size() + text.size() / 2);
    SpaceWriter writer(out, options);
    for (size_t at = 0; at < text.size();) {
      const Mapped mapped = mapped_at(text, at, options);
      for (const char c : mapped.text) writer.put(c);
      at += mapped.n_bytes;
    }
    return true;
  });
}

}  // namespace normalizers
}  // namespace millrace
