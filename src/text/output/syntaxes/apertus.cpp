// Apertus: a list of objects, each of which has the name as its one key.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax apertus{.name = "apertus",
                         .marks = {"<|tools_prefix|>", "<|tools_suffix|>"},
                         .shape = ToolSyntax::Shape::list,
                         .begins = {"<|tools_prefix|>"},
                         .end = "<|tools_suffix|>",
                         .name_key = "",
                         .reasoning_begins = {"<|inner_prefix|>"},
                         .reasoning_ends = {"<|inner_suffix|>"},
                         .dropped = {"<|assistant_end|>"}};

}  // namespace millrace::syntaxes
