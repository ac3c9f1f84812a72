// GigaChat 3: a call is a message of its own, whose role says so.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax gigachat_role{.name = "gigachat_role",
                               .marks = {"function call", "<|role_sep|>"},
                               .shape = ToolSyntax::Shape::object,
                               .begins = {"<|message_sep|>\n\nfunction call<|role_sep|>\n"},
                               .dropped = {"<|message_sep|>"}};

}  // namespace millrace::syntaxes
