// gpt-oss: a channel for each kind of text (harmony).
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax harmony{
    .name = "harmony",
    .marks = {"<|channel|>", "<|message|>"},
    .shape = ToolSyntax::Shape::named,
    .begins = {"<|channel|>commentary to=functions.", "<|start|>assistant to=functions.", " to=functions."},
    .end = "<|call|>",
    .name_end = "<|message|>",
    .name_note = " <|constrain|>json",
    .index_begin = "<|channel|>",
    .reasoning_begins = {"<|channel|>analysis<|message|>"},
    .reasoning_ends = {"<|end|>"},
    .dropped = {"<|start|>assistant", "<|channel|>final<|message|>", "<|channel|>commentary<|message|>",
                "<|end|>", "<|return|>", "<|call|>"}};

}  // namespace millrace::syntaxes
