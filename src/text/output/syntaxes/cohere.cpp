// Command R7B and A.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax cohere{.name = "cohere",
                        .marks = {"<|START_ACTION|>", "tool_name"},
                        .shape = ToolSyntax::Shape::list,
                        .begins = {"<|START_ACTION|>"},
                        .end = "<|END_ACTION|>",
                        .name_key = "tool_name",
                        .arguments_keys = {"parameters"},
                        .numbers_calls = true,
                        .reasoning_begins = {"<|START_THINKING|>"},
                        .reasoning_ends = {"<|END_THINKING|>"},
                        .dropped = {"<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>",
                                    "<|END_TEXT|>", "<|END_OF_TURN_TOKEN|>"}};

}  // namespace millrace::syntaxes
