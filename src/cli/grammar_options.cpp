#include "cli/grammar_options.h"

#include "base/error.h"
#include "cli/option_text.h"

namespace millrace {
namespace {

// A schema is an object or a boolean; anything else is the name of a file.
std::string schema_text(const std::string& given) {
  const bool is_text = is_json(given, '{') || given == "true" || given == "false";
  return is_text ? given : read_option_file(given);
}

}  // namespace

void GrammarOptions::declare(Args& args) {
  args.option("--json-schema", "The answer is JSON that this schema accepts: a file, or the schema itself",
              json_schema_);
  args.option("--grammar", "The answer matches the grammar in this file, GBNF or Lark", grammar_);
  args.option("--regex", "The answer matches this regular expression", regex_);
  args.option("--choice", "The answer is this text, or one of those given so", choices_);
}

bool GrammarOptions::is_given() const { return json_schema_ || grammar_ || regex_ || !choices_.empty(); }

std::optional<GrammarSource> GrammarOptions::source() const {
  using Kind = GrammarSource::Kind;
  const int n_given =
      (json_schema_ ? 1 : 0) + (grammar_ ? 1 : 0) + (regex_ ? 1 : 0) + (choices_.empty() ? 0 : 1);
  if (n_given > 1)
    fail(ErrorKind::usage, "only one of --json-schema, --grammar, --regex and --choice can be given");
  if (json_schema_) return GrammarSource{.kind = Kind::json_schema, .text = schema_text(*json_schema_)};
  if (grammar_) return grammar_text(read_option_file(*grammar_));
  if (regex_) return GrammarSource{.kind = Kind::regex, .text = *regex_};
  if (!choices_.empty()) return GrammarSource{.kind = Kind::choice, .choices = choices_};
  return std::nullopt;
}

}  // namespace millrace
