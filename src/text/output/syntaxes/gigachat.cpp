// GigaChat 3.1.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax gigachat{.name = "gigachat",
                          .marks = {"<|function_call|>", "<|role_sep|>"},
                          .shape = ToolSyntax::Shape::object,
                          .begins = {"<|function_call|>"},
                          .dropped = {"<|message_sep|>"}};

}  // namespace millrace::syntaxes
