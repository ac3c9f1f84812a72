// What holds the answer to a chat, whoever asks: a grammar of its calls and its content, a limit of its
// reasoning; and how it is then taken apart.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "base/json.h"
#include "engine/request.h"
#include "grammar/grammar_source.h"
#include "text/chat_tools.h"
#include "text/output/output_parser.h"

namespace millrace {

// What is known of a model that chats.
struct ChatModel {
  const ChatTools& tools;
  const Tokenizer& tokenizer;
  GrammarCache& grammars;
};

struct AnswerHold {
  std::shared_ptr<const Json> tools;       // that may be called, a list as OpenAI's API has it; or nullptr
  bool are_required = false;               // one must be called
  bool are_parallel = true;                // else at most one
  const GrammarSource* content = nullptr;  // what an answer without a call is; nullptr: anything
  bool splits_reasoning = true;            // else it is part of the answer
  std::optional<int64_t> max_reasoning;    // tokens
};

// Where the prompt leaves the answer; `begun`: the beginning of it that stands at its end.
ChatTools::PromptEnd end_of(const ChatModel& model, std::span<const int32_t> prompt,
                            std::string_view begun = {});

// Puts grammar, limit and end tokens into the request. The parser is for the syntax of the model's tools, and
// looks at `hold.tools`. Throws Error(usage) where a tool or the content cannot be enforced.
OutputParser::Options hold_answer(const ChatModel& model, const AnswerHold& hold,
                                  const ChatTools::PromptEnd& prompt_end, Request& request);

}  // namespace millrace
