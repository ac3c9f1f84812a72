// Python's two ways to format: '%s' % x, and '{}'.format(x).
#pragma once

#include <string>
#include <string_view>

#include "text/jinja/call.h"

namespace millrace::jinja {

class Interpreter;

// format % arguments
Value format_printf(Heap& heap, const Value& format, const Value& arguments);
// call.self.format(*call.positional, **call.named)
Value format_braces(Interpreter& interpreter, const Call& call);

// Fills `text` up to `width` characters: '<' '>' '^', or '=' to fill after the sign.
struct Padding {
  std::string fill = " ";
  char align = '<';
  int64_t width = 0;
};
std::string pad(Heap& heap, std::string_view text, const Padding& padding);

// format(value, spec)
std::string format_value(Heap& heap, const Value& value, std::string_view spec);

// A double in one of C's notations (e f g, and their capitals) with so many digits.
std::string format_real(double value, char notation, int64_t precision, bool is_alternate = false);

}  // namespace millrace::jinja
