// A chat as token ids. Only what the template writes may be a control token: the same text in a message, a
// tool or a document is text, so that nobody ends his turn and begins another's by writing "<|im_end|>".
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace millrace {

// Renders `variables` and encodes the result without BOS or EOS of its own: templates write them. What
// assistant messages hold came from the model, and is read as it was written; and so is what stands in the
// bytes `own_text` ({"at", "n"}) of the content of another message. Throws what render() throws.
std::vector<int32_t> encode_chat(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                 const Json& variables, std::string_view now = {});

}  // namespace millrace
