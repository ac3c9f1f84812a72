// MiniMax M2.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax minimax{.name = "minimax",
                         .marks = {"minimax:tool_call", "<invoke name="},
                         .shape = ToolSyntax::Shape::members,
                         .begins = {"<invoke name=\""},
                         .end = "</invoke>",
                         .section_begin = "<minimax:tool_call>",
                         .section_end = "</minimax:tool_call>",
                         .name_end = "\">",
                         .member_begin = "<parameter name=\"",
                         .key_end = "\">",
                         .value_end = "</parameter>",
                         .reasoning_begins = {"<think>"},
                         .reasoning_ends = {"</think>"}};

}  // namespace millrace::syntaxes
