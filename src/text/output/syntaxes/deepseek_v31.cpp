// DeepSeek V3.1.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax deepseek_v31{.name = "deepseek_v31",
                              .marks = {"<｜tool▁call▁begin｜>"},
                              .shape = ToolSyntax::Shape::named,
                              .begins = {"<｜tool▁call▁begin｜>"},
                              .end = "<｜tool▁call▁end｜>",
                              .section_begin = "<｜tool▁calls▁begin｜>",
                              .section_end = "<｜tool▁calls▁end｜>",
                              .name_end = "<｜tool▁sep｜>",
                              .reasoning_begins = {"<think>"},
                              .reasoning_ends = {"</think>"},
                              .dropped = {"<｜end▁of▁sentence｜>"}};

}  // namespace millrace::syntaxes
