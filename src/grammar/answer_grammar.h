// The grammar of a whole answer as a family writes it: reasoning where there is some, then free text until a
// call opens, or what the client wants the answer to be; a call in the syntax of the family, with arguments
// that the schema of the tool accepts.
#pragma once

#include <span>
#include <string>

#include "base/json.h"
#include "grammar/grammar_source.h"
#include "text/output/tool_syntax.h"
#include "text/tokenizer.h"

namespace millrace {

struct AnswerForm {
  const ToolSyntax& syntax;
  const Json::Array& tools;                // as OpenAI's API has them: those that may be called
  bool are_required = false;               // else the model may answer without a call
  bool are_parallel = true;                // else at most one
  std::string_view begun{};                // the sign of a part that the prompt ended with
  bool begins_in_reasoning = false;        // the prompt ended with the sign that begins it
  bool may_reason = true;                  // else its signs are text
  const GrammarSource* content = nullptr;  // what an answer without a call is; nullptr: anything
  std::span<const int32_t> end_tokens{};   // that end an answer: where it is not complete none may stand
};

// Throws Error(usage): tools for a syntax without calls, a tool without a name, a schema that cannot be
// enforced (with the tool's name), nothing that holds the answer. `tokenizer` tells which signs are control
// tokens.
Rules answer_rules(const AnswerForm& form, const Tokenizer& tokenizer);
// Equal for equal forms.
std::string key_of(const AnswerForm& form);

}  // namespace millrace
