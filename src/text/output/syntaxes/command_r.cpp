// Command R and R+ of 2024: a list in a fenced block.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax command_r{.name = "command_r",
                           .marks = {"Action:", "```json", "tool_name", "<|CHATBOT_TOKEN|>"},
                           .others = {"<|START_ACTION|>"},
                           .shape = ToolSyntax::Shape::list,
                           .begins = {"Action:\n```json", "Action: ```json", "Action:```json"},
                           .end = "```",
                           .name_key = "tool_name",
                           .arguments_keys = {"parameters"}};

}  // namespace millrace::syntaxes
