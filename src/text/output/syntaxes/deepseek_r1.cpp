// DeepSeek V3 and R1: the arguments in a fenced block.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax deepseek_r1{.name = "deepseek_r1",
                             .marks = {"<｜tool▁call▁begin｜>", "```json"},
                             .shape = ToolSyntax::Shape::named,
                             .begins = {"<｜tool▁call▁begin｜>function<｜tool▁sep｜>"},
                             .end = "```<｜tool▁call▁end｜>",
                             .section_begin = "<｜tool▁calls▁begin｜>",
                             .section_end = "<｜tool▁calls▁end｜>",
                             .name_end = "\n```json\n",
                             .reasoning_begins = {"<think>"},
                             .reasoning_ends = {"</think>"},
                             .dropped = {"<｜end▁of▁sentence｜>"}};

}  // namespace millrace::syntaxes
