// Values as some families write them: JSON but for keys without quotes, texts between signs of the family's
// own or single quotes, and Python's names.
#pragma once

#include <optional>
#include <string_view>

#include "base/json.h"

namespace millrace {

// Nothing where the text is no such value. `quote`: the sign around texts, or empty.
std::optional<Json> read_loose_json(std::string_view text, std::string_view quote);
// The arguments of a call in Python without its parentheses, "a=1, b='x'", as an object.
std::optional<Json> read_keyword_arguments(std::string_view text);

}  // namespace millrace
