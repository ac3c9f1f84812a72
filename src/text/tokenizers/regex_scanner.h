// Patterns that scanners.h does not know, by PCRE2 with its JIT compiler and with limits. They are written
// for Oniguruma (Ruby syntax), so what the two libraries read differently is rewritten or refused.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizers/split.h"

struct pcre2_real_code_8;

namespace millrace {

// PCRE2 knows Unicode 14: characters assigned since are of no category to these patterns.
class RegexScanner {
 public:
  // Throws Error(bad_model) for a pattern that is no regular expression or uses what is not supported.
  explicit RegexScanner(std::string_view pattern);
  // Throws Error(runtime) when a match takes more than the limits allow.
  Match next(std::string_view text, size_t from) const;

 private:
  std::shared_ptr<const pcre2_real_code_8> code_;  // shared: scanners are copied into the steps that use them
  std::string pattern_;
};

// `pattern` as PCRE2 must read it.
std::string onig_to_pcre(std::string_view pattern);

}  // namespace millrace
