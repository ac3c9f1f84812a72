#include "text/output/tool_syntax.h"

#include <algorithm>
#include <array>

#include "text/output/syntaxes/all.h"

namespace millrace {

std::span<const ToolSyntax* const> tool_syntaxes() {
  using namespace syntaxes;
  static constexpr std::array kAll{&harmony, &apriel,       &kimi,    &deepseek_r1, &deepseek_v31,
                                   &mistral, &mistral_list, &minimax, &glm,         &qwen_coder,
                                   &hermes,  &functionary,  &cohere,  &phi,         &granite,
                                   &llama,   &plain};
  return kAll;
}

const ToolSyntax& syntax_of_template(std::string_view source) {
  const auto has = [&](std::string_view mark) { return source.find(mark) != std::string_view::npos; };
  for (const ToolSyntax* syntax : tool_syntaxes())
    if (std::ranges::all_of(syntax->marks, has) && std::ranges::none_of(syntax->others, has)) return *syntax;
  return syntaxes::plain;
}

}  // namespace millrace
