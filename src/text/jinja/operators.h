// Python's operators. All throw RenderError where Python raises.
#pragma once

#include "text/jinja/ast.h"

namespace millrace::jinja {

Value apply(Interpreter& interpreter, Operator op, const Value& left, const Value& right);
Value negate(const Value& value, bool is_negative);
bool compare(Interpreter& interpreter, Comparison comparison, const Value& left, const Value& right);
bool contains(Interpreter& interpreter, const Value& container, const Value& item);
// value[start:stop:step]; a missing or none bound is open.
Value slice(Interpreter& interpreter, const Value& value, const Value& start, const Value& stop,
            const Value& step);

// object.name: a method first, then an item. Undefined where there is neither.
Value get_attribute(Interpreter& interpreter, const Value& object, const Value& name);
// object[index]: an item first, then a method.
Value get_item(Interpreter& interpreter, const Value& object, const Value& index);

}  // namespace millrace::jinja
