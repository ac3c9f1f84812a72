// Llama 4, where its template asks for JSON: the whole answer is one object.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax llama4_json{.name = "llama4_json",
                             .marks = {"\"parameters\": ", "<|header_start|>"},
                             .shape = ToolSyntax::Shape::object,
                             .begins = {"<|python_start|>"},
                             .arguments_keys = {"parameters", "arguments"},
                             .is_whole_answer = true,
                             .dropped = {"<|python_end|>", "<|eom|>", "<|eot|>"}};

}  // namespace millrace::syntaxes
