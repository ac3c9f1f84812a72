// Mistral before that: a list of calls.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax mistral_list{.name = "mistral_list",
                              .marks = {"[TOOL_CALLS]"},
                              .shape = ToolSyntax::Shape::list,
                              .begins = {"[TOOL_CALLS]"}};

}  // namespace millrace::syntaxes
