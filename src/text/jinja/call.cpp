#include "text/jinja/call.h"

#include <algorithm>

#include "base/error.h"

namespace millrace::jinja {

void Call::bind_to(std::string_view function, const std::string_view* names, Value* values, size_t n,
                   size_t n_required) {
  if (positional.size() > n) {
    raise("{}() takes at most {} arguments, found {}", function, n, positional.size());
  }
  std::ranges::copy(positional, values);
  for (auto& [name, value] : named) {
    const size_t at = static_cast<size_t>(std::find(names, names + n, text_of(name)) - names);
    if (at == n || names[at].empty()) {
      raise("{}() has no argument named '{}'", function, printable(text_of(name)));
    }
    if (!values[at].is_missing()) raise("{}() got its argument '{}' twice", function, names[at]);
    values[at] = value;
  }
  for (size_t i = 0; i < n_required; ++i) {
    if (values[i].is_missing()) raise("{}() needs {} arguments", function, n_required);
  }
}

void Call::expect_no_names(std::string_view function) const {
  if (!named.empty()) raise("{}() takes no named arguments", function);
}

int64_t int_argument(const Value& value, int64_t missing) {
  if (value.is_missing()) return missing;
  if (value.is_undefined()) raise_undefined(value);
  if (!value.is_integral()) raise("'{}' object cannot be interpreted as an integer", type_name(value));
  return value.integer();
}

const std::string& string_argument(const Value& value) {
  if (value.is_undefined()) raise_undefined(value);
  if (!value.is_string()) raise("expected a string, found '{}'", type_name(value));
  return text_of(value);
}

}  // namespace millrace::jinja
