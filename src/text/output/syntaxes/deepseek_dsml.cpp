// DeepSeek V3.2 and V4: tags that say of each value whether it is text.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax deepseek_dsml{
    .name = "deepseek_dsml",
    .marks = {"｜DSML｜"},
    .shape = ToolSyntax::Shape::members,
    .begins = {"<｜DSML｜invoke name=\""},
    .end = "</｜DSML｜invoke>",
    .section_begin = "<｜DSML｜function_calls>",
    .section_end = "</｜DSML｜function_calls>",
    .name_end = "\">",
    .member_begin = "<｜DSML｜parameter name=\"",
    .key_end = "\"",
    .value_begin = " string=\"true\">",
    .json_begin = " string=\"false\">",
    .value_end = "</｜DSML｜parameter>",
    .reasoning_begins = {"<think>"},
    .reasoning_ends = {"</think>"},
    .dropped = {"<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", "<｜end▁of▁sentence｜>"}};

}  // namespace millrace::syntaxes
