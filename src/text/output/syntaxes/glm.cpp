// GLM 4.5 to 5: keys and values in tags.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax glm{.name = "glm",
                     .marks = {"<tool_call>", "<arg_key>", "<arg_value>"},
                     .shape = ToolSyntax::Shape::members,
                     .begins = {"<tool_call>"},
                     .end = "</tool_call>",
                     .name_end = "",
                     .member_begin = "<arg_key>",
                     .key_end = "</arg_key>",
                     .value_begin = "<arg_value>",
                     .value_end = "</arg_value>",
                     .reasoning_begins = {"<think>"},
                     .reasoning_ends = {"</think>"}};

}  // namespace millrace::syntaxes
