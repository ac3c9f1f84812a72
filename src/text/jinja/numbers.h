// Python's int() and float() of a text, and round().
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "text/jinja/value.h"

namespace millrace::jinja {

// Nothing where the text is no number. Throws RenderError where an integer does not fit 64 bits.
std::optional<int64_t> parse_int(std::string_view text, int64_t base);
std::optional<double> parse_real(std::string_view text);

// int(value) of a double; throws RenderError where it is infinite or does not fit. NaN gives nothing.
std::optional<int64_t> truncate_real(double value);

Value round_value(const Value& value, int64_t n_digits);

}  // namespace millrace::jinja
