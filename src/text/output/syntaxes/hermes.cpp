// Hermes, Qwen 2.5 and 3, and many that learnt from them.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax hermes{.name = "hermes",
                        .marks = {"<tool_call>", "</tool_call>"},
                        .others = {"<function=", "<arg_key>"},
                        .shape = ToolSyntax::Shape::object,
                        .begins = {"<tool_call>"},
                        .end = "</tool_call>",
                        .reasoning_begins = {"<think>"},
                        .reasoning_ends = {"</think>"}};

}  // namespace millrace::syntaxes
