// Seed-OSS: a tag for each member, as Qwen3-Coder, under names of its own.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax seed{.name = "seed",
                      .marks = {"seed:tool_call", "<function=", "<parameter="},
                      .shape = ToolSyntax::Shape::members,
                      .begins = {"<seed:tool_call>\n<function=", "<seed:tool_call><function="},
                      .end = "</function>",
                      .name_end = ">",
                      .member_begin = "<parameter=",
                      .key_end = ">",
                      .value_end = "</parameter>",
                      .reasoning_begins = {"<seed:think>"},
                      .reasoning_ends = {"</seed:think>"},
                      .dropped = {"</seed:tool_call>", "<seed:eos>"}};

}  // namespace millrace::syntaxes
