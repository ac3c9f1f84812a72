// Llama 3.1 to 3.3: the whole answer is one object.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax llama{.name = "llama",
                       .marks = {"\"parameters\": ", "<|start_header_id|>"},
                       .others = {"<tool_call>"},
                       .shape = ToolSyntax::Shape::object,
                       .begins = {"<|python_tag|>"},
                       .arguments_keys = {"parameters", "arguments"},
                       .is_whole_answer = true,
                       .dropped = {"<|eom_id|>", "<|eot_id|>"}};

}  // namespace millrace::syntaxes
