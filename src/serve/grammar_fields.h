// The fields by which clients hold an answer to a grammar: OpenAI's response_format, vLLM's
// structured_outputs and the older guided_*, llama-server's grammar and json_schema.
#pragma once

#include <memory>

#include "grammar/grammar_source.h"
#include "serve/fields.h"

namespace millrace {

// Nothing where none is given. Compiles on the caller's thread. Throws ApiError(400) where two are given, or
// where what is given cannot be enforced. `grammars`: nullptr for a model without a tokenizer.
std::shared_ptr<const Grammar> read_grammar(Fields& fields, GrammarCache* grammars);

}  // namespace millrace
