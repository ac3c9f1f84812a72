// The formats of JSON Schema that can be enforced, each as a regular expression.
#pragma once

#include <string_view>

namespace millrace {

// Of the whole string; empty for a format that is not known.
std::string_view pattern_of_format(std::string_view format);

}  // namespace millrace
