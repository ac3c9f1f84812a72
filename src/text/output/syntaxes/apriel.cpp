// Apriel 1.5: a list between tags.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax apriel{.name = "apriel",
                        .marks = {"<tool_calls>", "</tool_calls>"},
                        .shape = ToolSyntax::Shape::list,
                        .begins = {"<tool_calls>"},
                        .end = "</tool_calls>",
                        .reasoning_begins = {"Here are my reasoning steps:"},
                        .reasoning_ends = {"[BEGIN FINAL RESPONSE]"},
                        .dropped = {"[END FINAL RESPONSE]", "<|end|>"}};

}  // namespace millrace::syntaxes
