// The arguments of a call, of a filter or of a test.
#pragma once

#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace millrace::jinja {

struct Call {
  Value self{};  // what a filter or test is applied to, what a method belongs to
  Values positional{};
  std::vector<std::pair<Value, Value>> named{};  // names are strings

  // The arguments in the order of `names`; those not given are missing. Throws RenderError for an argument
  // too many, given twice, of another name, or not given among the first `n_required`. A parameter named ""
  // cannot be given by name.
  template <size_t N>
  std::array<Value, N> bind(std::string_view function, const std::string_view (&names)[N],
                            size_t n_required = 0) {
    std::array<Value, N> values;
    bind_to(function, names, values.data(), N, n_required);
    return values;
  }
  void expect_none(std::string_view function) { bind_to(function, nullptr, nullptr, 0, 0); }
  // Throws RenderError where there are named arguments.
  void expect_no_names(std::string_view function) const;

 private:
  void bind_to(std::string_view function, const std::string_view* names, Value* values, size_t n,
               size_t n_required);
};

// An argument as that type; the default where it is missing. Throws RenderError for another type.
int64_t int_argument(const Value& value, int64_t missing);
const std::string& string_argument(const Value& value);

}  // namespace millrace::jinja
