// Llama 4, where its template asks for calls of functions.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax llama4{.name = "llama4",
                        .marks = {"<|header_start|>", "(params_name1="},
                        .shape = ToolSyntax::Shape::python,
                        .begins = {"<|python_start|>"},
                        .end = "<|python_end|>",
                        .name_end = "(",
                        .is_whole_answer = true,
                        .dropped = {"<|python_end|>", "<|eom|>", "<|eot|>"}};

}  // namespace millrace::syntaxes
