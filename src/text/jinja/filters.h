// The filters, by what they work on, and what they share.
#pragma once

#include <functional>
#include <span>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"

namespace millrace::jinja {

std::span<const NamedBuiltin> text_filters();
std::span<const NamedBuiltin> number_filters();
std::span<const NamedBuiltin> sequence_filters();
std::span<const NamedBuiltin> select_filters();

// What sort, unique, groupby, map and others look at: an attribute such as "name" or "a.0.b", small letters.
class KeyPath {
 public:
  // `attribute`: a string, an integer, or none (missing) for the item itself.
  KeyPath(Interpreter& interpreter, const Value& attribute, bool ignores_case = false,
          Value fallback = Value());
  Value operator()(Interpreter& interpreter, Value item) const;

 private:
  Values parts_{};
  bool ignores_case_;
  Value fallback_;  // for what is undefined on the way; missing: none
};

bool is_given(const Value& value);  // neither missing nor none

// With the keys of the items; throws RenderError where keys have no order.
Values sort_by(Interpreter& interpreter, Values items, const std::function<Value(const Value&)>& key,
               bool is_reversed);

}  // namespace millrace::jinja
