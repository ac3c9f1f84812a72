#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/tokenizers/regex_scanner.h"

#include <pcre2.h>

#include "base/error.h"

namespace millrace {
namespace {

constexpr size_t kMaxPatternBytes = 64 * 1024;
constexpr uint32_t kMatchLimit = 1'000'000;  // backtracking steps of one match

// What matching needs beside the pattern. One a thread: matches are frequent and short.
struct MatchState {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 * 1024, 4 * 1024 * 1024, nullptr);

  MatchState() {
    check(data != nullptr && context != nullptr && stack != nullptr, "memory for a regular expression");
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_depth_limit(context, kMatchLimit);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchState() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;
};

std::string error_text(int code) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

struct Rewrite {
  std::string_view onig, pcre;
};
// PCRE2's \p{Han} looks at script extensions and its [:punct:] leaves out most symbols.
constexpr Rewrite kRewrites[] = {
    {"\\p{Han}", "\\p{sc:Han}"}, {"\\P{Han}", "\\P{sc:Han}"}, {"[:punct:]", "\\p{P}\\p{S}"}};

}  // namespace

std::string onig_to_pcre(std::string_view pattern) {
  std::string out;
  bool is_in_class = false;
  for (size_t at = 0; at < pattern.size();) {
    const std::string_view rest = pattern.substr(at);
    const Rewrite* rewrite = nullptr;
    for (const Rewrite& r : kRewrites) {
      if (rest.starts_with(r.onig) && (r.onig[0] != '[' || is_in_class)) rewrite = &r;
    }
    if (rewrite != nullptr) {
      out += rewrite->pcre;
      at += rewrite->onig.size();
    } else if (rest[0] == '\\' && rest.size() > 1) {
      if (rest[1] == 'h' || rest[1] == 'H') {
        fail(ErrorKind::bad_model, "the pattern \"{}\" uses \\{}, which is not supported", printable(pattern),
             rest[1]);
      }
      out += rest.substr(0, 2);
      at += 2;
    } else {
      if (is_in_class && rest.starts_with("&&")) {
        fail(ErrorKind::bad_model, "the pattern \"{}\" intersects character classes, which is not supported",
             printable(pattern));
      }
      if (rest[0] == '[') {
        if (is_in_class) out += '\\';  // Oniguruma nests classes; a lone [ in a class is a character
        is_in_class = true;
      } else if (rest[0] == ']') {
        is_in_class = false;
      }
      out += rest[0];
      ++at;
    }
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
  const int n = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                            PCRE2_NO_UTF_CHECK, state.data, state.context);
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
