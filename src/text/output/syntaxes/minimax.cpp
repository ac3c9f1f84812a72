// MiniMax M2.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax minimax{.name = "minimax",
                         .marks = {"minimax:tool_call", "<invoke name="},
                         .shape = ToolSyntax::Shape::members,
                         .begins = {"<invoke name=\""},
                         .end = "</invoke>",
                         .name_end = "\">",
                         .member_begin = "<parameter name=\"",
                         .key_end = "\">",
                         .value_end = "</parameter>",
                         .reasoning_begins = {"<think>"},
                         .reasoning_ends = {"</think>"},
                         .dropped = {"<minimax:tool_call>", "</minimax:tool_call>"}};

}  // namespace millrace::syntaxes
