// Functionary 3.1: the name in the tag.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax functionary{.name = "functionary",
                             .marks = {"<function=", "<|python_tag|>"},
                             .shape = ToolSyntax::Shape::named,
                             .begins = {"<function="},
                             .end = "</function>",
                             .name_end = ">",
                             .dropped = {"<|eom_id|>", "<|eot_id|>"}};

}  // namespace millrace::syntaxes
