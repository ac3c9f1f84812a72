#include "serve/dialects/tool_fields.h"

#include <algorithm>

namespace millrace {
namespace {

constexpr size_t kMaxName = 256;

const Json& need_object(Fields& fields, std::string_view name) {
  const Json* found = &fields.need(fields.object(name), name);
  return *found;
}

void may_call(const std::string& name, const std::string& field, ChatAsk& ask) {
  const bool is_known = std::ranges::any_of(
      ask.tools, [&](const Json& tool) { return tool.at("function").at("name") == Json(name); });
  if (!is_known) refuse_field(field, "{}: there is no tool {}", field, printable(name, 60));
  ask.named.push_back(name);
}

// The name in {"type": "function", ...} in either form.
std::string named_function(const Json& given, const std::string& path, ToolForm form) {
  Fields fields(given, path);
  fields.need(fields.choice("type", {"function"}), "type");
  if (form == ToolForm::flat) {
    std::string name = fields.need(fields.text("name"), "name");
    fields.finish();
    return name;
  }
  Fields inner(need_object(fields, "function"), fields.full_name("function"));
  std::string name = inner.need(inner.text("name"), "name");
  inner.finish();
  fields.finish();
  return name;
}

void read_allowed(Fields& fields, ToolForm form, ChatAsk& ask) {
  const std::string mode = fields.need(fields.choice("mode", {"auto", "required"}), "mode");
  ask.are_required = mode == "required";
  const Json* tools = &fields.need(fields.array("tools", kMaxTools), "tools");
  for (size_t i = 0; i < tools->as_array().size(); ++i) {
    const std::string path = fmt::format("{}[{}]", fields.full_name("tools"), i);
    may_call(named_function(tools->as_array()[i], path, form), path, ask);
  }
  if (ask.named.empty()) ask.tools.clear();
}

void read_choice_object(const Json& given, ToolForm form, ChatAsk& ask) {
  Fields fields(given, "tool_choice");
  const std::string type = fields.need(fields.choice("type", {"function", "allowed_tools"}), "type");
  if (type == "function") return need_call_of(named_function(given, "tool_choice", form), "tool_choice", ask);
  if (form == ToolForm::flat) {
    read_allowed(fields, form, ask);
  } else {
    Fields inner(need_object(fields, "allowed_tools"), "tool_choice.allowed_tools");
    read_allowed(inner, form, ask);
    inner.finish();
  }
  fields.finish();
}

}  // namespace

void need_call_of(const std::string& name, const std::string& field, ChatAsk& ask) {
  may_call(name, field, ask);
  ask.are_required = true;
}

Json read_function(Fields& fields, std::string_view parameters) {
  std::string name = fields.need(fields.text("name"), "name");
  if (name.empty() || name.size() > kMaxName)
    refuse_field(fields.full_name("name"), "{} has {} bytes, expected 1 to {}", fields.full_name("name"),
                 name.size(), kMaxName);
  Json tool;
  tool["type"] = "function";
  Json& function = tool["function"];
  function["name"] = std::move(name);
  function["description"] = fields.text("description").value_or("");  // some templates need one
  static const Json kNone = Json::parse(R"({"type": "object", "properties": {}})", "no parameters");
  const Json* schema = fields.object(parameters);
  function["parameters"] = schema == nullptr ? kNone : *schema;
  fields.boolean("strict");
  return tool;
}

Json::Array read_tools(Fields& fields, std::string_view name) {
  const Json* given = fields.array(name, kMaxTools);
  if (given == nullptr) return {};
  Json::Array out;
  for (size_t i = 0; i < given->as_array().size(); ++i) {
    Fields tool(given->as_array()[i], fmt::format("{}[{}]", fields.full_name(name), i));
    tool.choice("type", {"function"});
    Fields function(need_object(tool, "function"), tool.full_name("function"));
    out.push_back(read_function(function));
    function.finish();
    tool.finish();
  }
  return out;
}

void read_tool_choice(Fields& fields, ToolForm form, ChatAsk& ask) {
  ask.are_parallel = fields.boolean("parallel_tool_calls").value_or(true);
  const Json* given = fields.any("tool_choice");
  if (given == nullptr) return;
  if (given->is_object()) return read_choice_object(*given, form, ask);
  const std::string choice =
      fields.need(fields.choice("tool_choice", {"none", "auto", "required"}), "tool_choice");
  if (choice != "none" && ask.tools.empty())
    refuse_field("tool_choice", "tool_choice is {}, and there are no tools", choice);
  if (choice == "none") ask.tools.clear();  // a model that is told of them calls them
  ask.are_required = choice == "required";
}

}  // namespace millrace
