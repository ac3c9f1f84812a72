// Conversations as prompts, for every dialect that has them.
#pragma once

#include "serve/dialect.h"
#include "serve/fields.h"

namespace millrace {

// The tokens of messages ({"role", "content", ...}, as templates read them), with variables of the template.
// `is_begun`: the last message is the beginning of the answer, which goes on after it. Throws ApiError where
// the template refuses.
std::vector<int32_t> encode_messages(const ServedModel& model, Json::Array messages, const Json& variables,
                                     bool is_begun);

}  // namespace millrace
