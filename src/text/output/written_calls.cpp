#include "text/output/written_calls.h"

#include <fmt/format.h>

namespace millrace {
namespace {

using Shape = ToolSyntax::Shape;

class Writer {
 public:
  explicit Writer(const ToolSyntax& syntax) : syntax_(syntax) {}

  std::string all(const Json::Array& calls) const {
    const bool is_list = syntax_.shape == Shape::list || syntax_.shape == Shape::python;
    std::string out(syntax_.section_begin);
    if (is_list) out += std::string(begin()) + "[";
    for (size_t i = 0; i < calls.size(); ++i) {
      if (i > 0) out += is_list ? ", " : is_of_lines() ? "\n" : "";
      out += one(calls[i].at("function"), i);
    }
    if (is_list) out += "]" + end();
    return out + std::string(syntax_.section_end);
  }

 private:
  // A call that needs no sign has none.
  std::string_view begin() const { return syntax_.is_whole_answer ? "" : syntax_.begins.front(); }
  std::string end() const {
    if (syntax_.is_whole_answer) return {};
    return (syntax_.end.starts_with("```") ? "\n" : "") + std::string(syntax_.end);
  }
  bool is_of_lines() const { return syntax_.shape == Shape::object || syntax_.shape == Shape::members; }

  std::string one(const Json& function, size_t index) const {
    const std::string& name = function.at("name").as_string();
    const Json& arguments = function.at("arguments");
    switch (syntax_.shape) {
      case Shape::object: {
        const std::string line = begin().ends_with('>') ? "\n" : "";
        return std::string(begin()) + line + object(name, arguments, index) + line + end();
      }
      case Shape::list:
        return object(name, arguments, index);
      case Shape::python:
        return name + "(" + joined(arguments, ", ", "=") + ")";
      case Shape::members:
        return std::string(begin()) + name + std::string(syntax_.name_end) + "\n" + members(arguments) +
               end();
      case Shape::braces:
        return std::string(begin()) + name + "{" + joined(arguments, ",", ":") + "}" + end();
      default:
        return std::string(begin()) + name + behind_name(index) + arguments.dump() + end();
    }
  }

  std::string object(const std::string& name, const Json& arguments, size_t index) const {
    if (syntax_.name_key.empty()) return fmt::format("{{{}: {}}}", Json(name).dump(), arguments.dump());
    return fmt::format("{{{}\"{}\": {}, \"{}\": {}}}",
                       syntax_.numbers_calls ? fmt::format("\"tool_call_id\": \"{}\", ", index) : "",
                       syntax_.name_key, Json(name).dump(), syntax_.arguments_keys.front(), arguments.dump());
  }

  std::string behind_name(size_t index) const {
    const std::string number = syntax_.index_begin == ":" ? fmt::format(":{}", index) : "";
    return number + std::string(syntax_.name_note) + std::string(syntax_.name_end);
  }

  std::string members(const Json& arguments) const {
    const std::string line = syntax_.value_begin.empty() ? "\n" : "";
    std::string out;
    for (const auto& [key, value] : arguments.as_object()) {
      const bool is_json = !value.is_string() && !syntax_.json_begin.empty();
      out += fmt::format("{}{}{}{}{}{}{}{}\n", syntax_.member_begin, key, syntax_.key_end,
                         is_json ? syntax_.json_begin : syntax_.value_begin, line,
                         value.is_string() ? value.as_string() : value.dump(), line, syntax_.value_end);
    }
    return out;
  }

  std::string joined(const Json& arguments, std::string_view comma, std::string_view colon) const {
    std::string out;
    for (const auto& [key, value] : arguments.as_object())
      out += fmt::format("{}{}{}{}", out.empty() ? "" : comma, key, colon, loose(value));
    return out;
  }
  // As Python has it, or between the signs of `braces`.
  std::string loose(const Json& value) const {
    const bool is_python = syntax_.shape == Shape::python;
    if (value.is_string() && !is_python)
      return fmt::format("{}{}{}", syntax_.value_begin, value.as_string(), syntax_.value_end);
    if (value.is_bool() && is_python) return value.as_bool() ? "True" : "False";
    if (value.is_null() && is_python) return "None";
    if (value.is_array()) {
      std::string out;
      for (const Json& each : value.as_array()) out += (out.empty() ? "" : ",") + loose(each);
      return "[" + out + "]";
    }
    if (!value.is_object()) return value.dump();
    std::string out;
    for (const auto& [key, member] : value.as_object())
      out += (out.empty() ? "" : ",") + (is_python ? Json(key).dump() : key) + ":" + loose(member);
    return "{" + out + "}";
  }

  const ToolSyntax& syntax_;
};

}  // namespace

std::string written_calls(const ToolSyntax& syntax, const Json::Array& calls) {
  return Writer(syntax).all(calls);
}

}  // namespace millrace
