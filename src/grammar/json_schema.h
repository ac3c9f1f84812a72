// JSON Schema as a grammar of the texts that it accepts.
//
// What a schema says is enforced or refused, with the place and the keyword; annotations (title, description,
// examples...) say nothing. Of what a schema accepts, some spellings are left out, so that everything that is
// drawn is valid and no answer goes on for ever:
//   - members stand in the order of `properties`, members without a schema of their own behind them;
//   - between the signs of objects and arrays stands nothing, one blank, or a line end with indentation;
//   - a schema with `properties` and without `additionalProperties` gets the members it names;
//   - numbers have at most 18 digits before the point and 17 behind it.
#pragma once

#include <string_view>

#include "base/json.h"
#include "grammar/json_text.h"
#include "grammar/rules.h"

namespace millrace {

struct JsonSchemaOptions {
  bool has_free_space = true;  // else none between signs
  JsonStyle style{};
};

// An expression in `rules` for the values that `schema` accepts. Throws Error(usage); `what` names the schema
// in the sentence ("the schema of the tool \"f\"").
Rules::Node json_schema(Rules& rules, const Json& schema, std::string_view what,
                        const JsonSchemaOptions& options = {});
// Any JSON value; any object.
Rules::Node any_json(Rules& rules, const JsonSchemaOptions& options = {});
Rules::Node any_json_object(Rules& rules, const JsonSchemaOptions& options = {});

}  // namespace millrace
