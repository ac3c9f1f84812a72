#include "serve/answer_hold.h"

#include <algorithm>

#include "engine/reasoning_limit.h"
#include "grammar/answer_grammar.h"

namespace millrace {

ChatTools::PromptEnd end_of(const ChatModel& model, std::span<const int32_t> prompt, std::string_view begun) {
  constexpr size_t kTail = 64;
  const auto tail = prompt.last(std::min(prompt.size(), kTail));
  return model.tools.end_of(model.tokenizer.decode(tail, true), begun);
}

OutputParser::Options hold_answer(const ChatModel& model, const AnswerHold& hold,
                                  const ChatTools::PromptEnd& prompt_end, Request& request) {
  static const Json::Array kNone;
  const ToolSyntax& syntax = model.tools.syntax();
  const Json::Array& tools = hold.tools == nullptr ? kNone : hold.tools->as_array();
  const OutputParser::Options parser{
      .begun = prompt_end.sign,
      .begins_in_reasoning = hold.splits_reasoning && prompt_end.is_reasoning,
      .has_reasoning = hold.splits_reasoning && model.tools.has_reasoning(),
      .has_tools = !tools.empty(),
      .is_held = hold.content != nullptr && !hold.are_required,
      .tools = hold.tools.get(),
  };
  // What ends the reasoning ends no answer, whatever else it ends elsewhere (harmony's <|end|>).
  std::erase_if(request.end_tokens, [&](int32_t token) {
    return std::ranges::find(syntax.reasoning_ends, model.tokenizer.piece(token)) !=
           syntax.reasoning_ends.end();
  });
  if (hold.max_reasoning) {
    OutputParser::Options limited = parser;
    limited.begins_in_reasoning = prompt_end.is_reasoning;
    limited.has_reasoning = true;
    limited.tools = nullptr;  // they go with the answer, before the engine may be done with it
    request.reasoning =
        std::make_shared<const ReasoningLimit>(syntax, model.tokenizer, limited, *hold.max_reasoning);
  }
  if (tools.empty() && hold.content == nullptr) return parser;
  const AnswerForm form{.syntax = syntax,
                        .tools = tools,
                        .are_required = hold.are_required,
                        .are_parallel = hold.are_parallel,
                        .begun = prompt_end.sign,
                        .begins_in_reasoning = prompt_end.is_reasoning,
                        .may_reason = prompt_end.may_reason,
                        .content = hold.content,
                        .end_tokens = request.end_tokens};
  request.grammar = model.grammars.get(key_of(form), [&] { return answer_rules(form, model.tokenizer); });
  return parser;
}

}  // namespace millrace
