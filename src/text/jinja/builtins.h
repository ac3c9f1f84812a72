// What templates can name without defining it: filters, tests, functions, and the methods of values.
#pragma once

#include <string_view>

#include "text/jinja/context.h"

namespace millrace::jinja {

using Filter = Value (*)(Context& context, const Value& input, const Arguments& arguments);
using Test = bool (*)(Context& context, const Value& input, const Arguments& arguments);

Filter find_filter(std::string_view name);  // nullptr: unknown
Test find_test(std::string_view name);

// range, namespace, dict, raise_exception, strftime_now, ...: into the outermost scope.
void define_functions(Context& context);

// value.name as Jinja's sandbox gives it: a method, else the item, else undefined. Throws for methods that
// would change the value.
Value attribute_of(Context& context, const Value& value, std::string_view name);
// value[key]: the item, else the attribute, else undefined.
Value item_of(Context& context, const Value& value, const Value& key);

}  // namespace millrace::jinja
