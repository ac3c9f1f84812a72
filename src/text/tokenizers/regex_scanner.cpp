#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/tokenizers/regex_scanner.h"

#include <pcre2.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"

namespace millrace {
namespace {

constexpr size_t kMaxPatternBytes = 64 * 1024;
// Backtracking steps that the matches in one text may take: so many, and more for its length. Patterns that
// are not made to go astray take a few for each byte; one that would take quadratic time or worse ends in an
// error.
constexpr uint64_t kFreeSteps = 8'000;
constexpr uint64_t kStepsPerByte = 256;
constexpr uint32_t kFirstLimit = 2'000;  // of one match; raised where it does not suffice

// What matching needs beside the pattern. One a thread: matches are frequent and short.
struct MatchState {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 * 1024, 4 * 1024 * 1024, nullptr);

  MatchState() {
    check(data != nullptr && context != nullptr && stack != nullptr, "memory for a regular expression");
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchState() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;

  // The steps that a pattern has taken in the text that it is in. One step of a chain calls the next one in
  // the middle of its text, so there are several at once.
  uint64_t& steps_of(const pcre2_code* code) {
    for (auto& [known, steps] : steps_) {
      if (known == code) return steps;
    }
    if (steps_.size() > 64) steps_.clear();  // of tokenizers that are gone
    return steps_.emplace_back(code, 0).second;
  }

 private:
  std::vector<std::pair<const pcre2_code*, uint64_t>> steps_;
};

int match_within_limits(MatchState& state, const pcre2_code* code, std::string_view text, size_t from) {
  uint64_t& steps = state.steps_of(code);
  if (from == 0) steps = 0;
  for (uint32_t limit = kFirstLimit;; limit *= 4) {
    pcre2_set_match_limit(state.context, limit);
    const int n = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                              PCRE2_NO_UTF_CHECK, state.data, state.context);
    if (n != PCRE2_ERROR_MATCHLIMIT) return n;
    steps += limit;
    if (steps > kFreeSteps + kStepsPerByte * text.size() || limit > UINT32_MAX / 4) return n;
  }
}

std::string error_text(int code) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

struct Rewrite {
  std::string_view onig;
  std::string_view pcre;      // outside of a class
  std::string_view in_class;  // inside; empty: not supported there
};
// PCRE2's \s has U+180E, its \w lacks marks and circled letters, its \p{Han} looks at script extensions, and
// its
// [:punct:] leaves out most symbols.
constexpr Rewrite kRewrites[] = {
    {"\\s", "\\p{White_Space}", "\\p{White_Space}"},
    {"\\S", "\\P{White_Space}", "\\P{White_Space}"},
    {"\\w", "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"},
    {"\\W", "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]", ""},
    {"\\h", "[0-9A-Fa-f]", "0-9A-Fa-f"},
    {"\\H", "[^0-9A-Fa-f]", ""},
    {"\\p{Han}", "\\p{sc:Han}", "\\p{sc:Han}"},
    {"\\P{Han}", "\\P{sc:Han}", "\\P{sc:Han}"},
    {"[:punct:]", "", "\\p{P}\\p{S}"},
};

const Rewrite* rewrite_at(std::string_view rest, bool is_in_class) {
  for (const Rewrite& rewrite : kRewrites) {
    if (rest.starts_with(rewrite.onig) && (is_in_class || rewrite.onig[0] != '[')) return &rewrite;
  }
  return nullptr;
}

[[noreturn]] void refuse(std::string_view pattern, std::string_view what) {
  fail(ErrorKind::bad_model, "the pattern \"{}\" of the tokenizer has {}, which is not supported",
       printable(pattern), what);
}

}  // namespace

std::string onig_to_pcre(std::string_view pattern) {
  std::string out;
  bool is_in_class = false;
  for (size_t at = 0; at < pattern.size();) {
    const std::string_view rest = pattern.substr(at);
    if (const Rewrite* rewrite = rewrite_at(rest, is_in_class)) {
      const std::string_view text = is_in_class ? rewrite->in_class : rewrite->pcre;
      if (text.empty()) refuse(pattern, "a negated set inside a class");
      out += text;
      at += rewrite->onig.size();
      continue;
    }
    if (rest[0] == '\\' && rest.size() > 1) {
      out += rest.substr(0, 2);
      at += 2;
      continue;
    }
    if (is_in_class && rest.starts_with("[:")) {
      const size_t n_bytes = std::min(rest.find(":]"), rest.size() - 2) + 2;
      out += rest.substr(0, n_bytes);
      at += n_bytes;
      continue;
    }
    if (is_in_class && (rest.starts_with("&&") || rest[0] == '[')) {
      refuse(pattern, "a class made of classes");
    }
    if (rest[0] == '[') is_in_class = true;
    if (rest[0] == ']') is_in_class = false;
    out += rest[0];
    ++at;
  }
  return out;
}

RegexScanner::RegexScanner(std::string_view pattern) : pattern_(pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    fail(ErrorKind::bad_model, "a pattern of the tokenizer has {} bytes, the most allowed are {}",
         pattern.size(), kMaxPatternBytes);
  }
  const std::string rewritten = onig_to_pcre(pattern);
  int error = 0;
  PCRE2_SIZE error_at = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten.data()), rewritten.size(),
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                                   &error_at, nullptr);
  if (code == nullptr) {
    fail(ErrorKind::bad_model, "the pattern \"{}\" of the tokenizer is not understood at byte {}: {}",
         printable(pattern), error_at, error_text(error));
  }
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where this fails the interpreter does the same, slower
  code_ = {code, [](const pcre2_code* c) { pcre2_code_free(const_cast<pcre2_code*>(c)); }};
}

Match RegexScanner::next(std::string_view text, size_t from) const {
  static thread_local MatchState state;
  const int n = match_within_limits(state, code_.get(), text, from);
  if (n == PCRE2_ERROR_NOMATCH) return {text.size(), text.size()};
  if (n < 0) {
    fail(ErrorKind::runtime, "the pattern \"{}\" of the tokenizer gave up on this text: {}",
         printable(pattern_), error_text(n));
  }
  const PCRE2_SIZE* place = pcre2_get_ovector_pointer(state.data);
  // \K inside a lookahead can give an end before the beginning.
  if (place[0] < from || place[1] < place[0]) return {text.size(), text.size()};
  return {place[0], place[1]};
}

}  // namespace millrace
