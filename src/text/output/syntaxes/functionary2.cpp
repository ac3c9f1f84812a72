// Functionary 2 and 3.2: each part begins with whom it is for, "all" or a tool.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax functionary2{.name = "functionary2",
                              .marks = {">>>all", "recipient"},
                              .shape = ToolSyntax::Shape::named,
                              .begins = {">>>"},
                              .name_end = "\n",
                              .text_name = "all",
                              .dropped = {">>>all\n", "<|eot_id|>"}};

}  // namespace millrace::syntaxes
