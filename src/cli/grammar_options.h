// The options of a verb that hold the answer to a grammar.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/args.h"
#include "grammar/grammar_source.h"

namespace millrace {

class GrammarOptions {
 public:
  void declare(Args& args);

  bool is_given() const;
  // Nothing where none is given. Throws Error(usage) where two are, or what is given cannot be enforced.
  std::optional<GrammarSource> source() const;

 private:
  std::optional<std::string> json_schema_, grammar_, regex_;
  std::vector<std::string> choices_;
};

}  // namespace millrace
