// DeepSeek V3.1.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax deepseek_v31{
    .name = "deepseek_v31",
    .marks = {"<｜tool▁call▁begin｜>"},
    .shape = ToolSyntax::Shape::named,
    .begins = {"<｜tool▁call▁begin｜>"},
    .end = "<｜tool▁call▁end｜>",
    .name_end = "<｜tool▁sep｜>",
    .reasoning_begins = {"<think>"},
    .reasoning_ends = {"</think>"},
    .dropped = {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜end▁of▁sentence｜>"}};

}  // namespace millrace::syntaxes
