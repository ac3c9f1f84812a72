// The fields by which clients hold an answer to a grammar: OpenAI's response_format, vLLM's
// structured_outputs and the older guided_*, llama-server's grammar and json_schema.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "grammar/grammar_source.h"
#include "serve/fields.h"

namespace millrace {

// The field that asks for it, and what.
struct AskedGrammar {
  std::string field;
  GrammarSource source;
};

// Nothing where none is given. Throws ApiError(400) where two are.
std::optional<AskedGrammar> find_grammar(Fields& fields);
AskedGrammar schema_grammar(std::string field, const Json& schema);
// Throws ApiError(400) where it cannot be enforced.
std::shared_ptr<const Grammar> compiled(const AskedGrammar& asked, GrammarCache* grammars);

// Both of the above. Compiles on the caller's thread. Throws ApiError(400) where two are given, or
// where what is given cannot be enforced. `grammars`: nullptr for a model without a tokenizer.
std::shared_ptr<const Grammar> read_grammar(Fields& fields, GrammarCache* grammars);

}  // namespace millrace
