// How Python prints values: str(), repr(), json.dumps().
#pragma once

#include <string>

#include "text/jinja/value.h"

namespace millrace::jinja {

std::string repr_of_real(double value);
std::string to_str(Heap& heap, const Value& value);
std::string to_repr(Heap& heap, const Value& value);
// The same, added to `out`; of a string without a copy.
void append_str(Heap& heap, std::string& out, const Value& value);

struct JsonStyle {
  bool is_ascii = false;     // ensure_ascii
  bool is_indented = false;  // each element on a line of its own, `indent` a level
  std::string indent{};
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool is_sorted = false;
};
std::string to_json(Heap& heap, const Value& value, const JsonStyle& style);

}  // namespace millrace::jinja
