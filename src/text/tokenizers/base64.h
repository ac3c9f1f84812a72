// Base64, in which tokenizer.json carries binary data.
#pragma once

#include <string>
#include <string_view>

namespace millrace {

// Throws Error(bad_model) where `text`, which is called `what`, is no base64 (RFC 4648, padded).
std::string decode_base64(std::string_view text, std::string_view what);

}  // namespace millrace
