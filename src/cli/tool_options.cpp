#include "cli/tool_options.h"

#include <algorithm>

#include "base/error.h"
#include "cli/option_text.h"
#include "serve/api_error.h"
#include "serve/dialects/tool_fields.h"

namespace millrace {
namespace {

// A list, or the name of a file that holds one.
Json::Array read(const std::string& given) {
  const bool is_text = is_json(given, '[');
  const std::string what = is_text ? "--tools" : given;
  Json body;
  body["tools"] = Json::parse(is_text ? given : read_option_file(given), what, ErrorKind::usage);
  try {
    Fields fields(body);
    return read_tools(fields, "tools");
  } catch (const ApiError& error) {
    fail(ErrorKind::usage, "{}: {}", what, error.what());
  }
}

const std::string& name_of(const Json& tool) { return tool.at("function").at("name").as_string(); }

void need_tool(const Json::Array& tools, const std::string& name, const char* option) {
  if (std::ranges::find(tools, name, name_of) == tools.end())
    fail(ErrorKind::usage, "{}: there is no tool {}", option, printable(name, 60));
}

}  // namespace

void ToolOptions::declare(Args& args) {
  args.option("--tools",
              "Tools that the model may call: a JSON list as OpenAI's API has it, or a file with one",
              tools_);
  args.option("--tool-choice", "auto, required (the first answer to a question calls one), or a name",
              choice_);
  args.option("--tool",
              "NAME=COMMAND: calls of NAME are answered by the command, with the arguments on its standard "
              "input (may be given more than once)",
              commands_);
}

ToolUse ToolOptions::use() const {
  ToolUse out;
  if (!tools_) {
    if (choice_ || !commands_.empty())
      fail(ErrorKind::usage, "{} needs --tools", choice_ ? "--tool-choice" : "--tool");
    return out;
  }
  out.tools = read(*tools_);
  if (out.tools.empty()) fail(ErrorKind::usage, "--tools: there are none in the list");
  Json::Array callable = out.tools;
  const std::string choice = choice_.value_or("auto");
  out.are_required = choice != "auto";
  if (choice != "auto" && choice != "required") {
    need_tool(out.tools, choice, "--tool-choice");
    std::erase_if(callable, [&](const Json& tool) { return name_of(tool) != choice; });
  }
  out.callable = std::make_shared<const Json>(std::move(callable));
  for (const std::string& given : commands_) {
    const size_t at = given.find('=');
    if (at == std::string::npos || at + 1 == given.size())
      fail(ErrorKind::usage, "--tool is {}, expected NAME=COMMAND", printable(given, 60));
    const std::string name = given.substr(0, at);
    need_tool(out.tools, name, "--tool");
    if (!out.commands.emplace(name, given.substr(at + 1)).second)
      fail(ErrorKind::usage, "--tool: {} has two commands", name);
  }
  return out;
}

}  // namespace millrace
