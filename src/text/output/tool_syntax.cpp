#include "text/output/tool_syntax.h"

#include <algorithm>
#include <array>

#include "text/output/syntaxes/all.h"

namespace millrace {

std::span<const ToolSyntax* const> tool_syntaxes() {
  using namespace syntaxes;
  static constexpr std::array kAll{
      &harmony,      &apriel,       &kimi,   &deepseek_dsml, &deepseek_r1, &deepseek_v31, &mistral,
      &mistral_list, &minimax,      &glm,    &seed,          &qwen_coder,  &gemma,        &hermes,
      &functionary,  &functionary2, &cohere, &command_r,     &apertus,     &gigachat,     &gigachat_role,
      &phi,          &granite,      &lfm,    &llama4,        &llama4_json, &llama,        &plain};
  return kAll;
}

std::vector<std::string_view> silent_signs_of(const ToolSyntax& syntax) {
  std::vector<std::string_view> out = syntax.dropped;
  for (const std::string_view sign : {syntax.section_begin, syntax.section_end})
    if (!sign.empty()) out.push_back(sign);
  return out;
}

std::vector<std::string_view> signs_of(const ToolSyntax& syntax) {
  std::vector<std::string_view> out{syntax.end,         syntax.name_end,     syntax.name_note,
                                    syntax.index_begin, syntax.member_begin, syntax.key_end,
                                    syntax.value_begin, syntax.json_begin,   syntax.value_end};
  const std::vector<std::string_view> silent = silent_signs_of(syntax);
  for (const auto* list : {&syntax.begins, &syntax.reasoning_begins, &syntax.reasoning_ends, &silent})
    out.insert(out.end(), list->begin(), list->end());
  std::erase(out, std::string_view());
  return out;
}

const ToolSyntax& syntax_of_template(std::string_view source) {
  const auto has = [&](std::string_view mark) { return source.find(mark) != std::string_view::npos; };
  for (const ToolSyntax* syntax : tool_syntaxes())
    if (std::ranges::all_of(syntax->marks, has) && std::ranges::none_of(syntax->others, has)) return *syntax;
  return syntaxes::plain;
}

}  // namespace millrace
