// No calls; reasoning as nearly all write it.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax plain{
    .name = "plain", .marks = {}, .reasoning_begins = {"<think>"}, .reasoning_ends = {"</think>"}};

}  // namespace millrace::syntaxes
