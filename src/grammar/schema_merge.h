// What two JSON schemas say together, as one schema.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace millrace {

// How a $ref is looked up, and how a fault is told (which throws).
struct SchemaScope {
  std::function<const Json&(const Json& ref)> resolve;
  std::function<void(std::string_view sentence)> refuse;
};

// A schema that accepts what both accept; `false` where that is nothing. `pattern` may become a list.
Json conjoined(const Json& a, const Json& b, const SchemaScope& scope, int depth = 0);

// Whether no value can be accepted by both, as far as types, constants and required members tell.
bool are_disjoint(const Json& a, const Json& b, const SchemaScope& scope, int depth = 0);

// The types that a schema admits, by name; all of them where it names none.
std::vector<std::string> types_of(const Json& schema);

}  // namespace millrace
