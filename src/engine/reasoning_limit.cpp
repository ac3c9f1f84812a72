#include "engine/reasoning_limit.h"

#include "base/utf8.h"

namespace millrace {

ReasoningLimit::ReasoningLimit(const ToolSyntax& syntax, const Tokenizer& tokenizer,
                               const OutputParser::Options& parser, int64_t max_tokens)
    : syntax_(syntax),
      tokenizer_(tokenizer),
      parser_(parser),
      max_tokens_(max_tokens),
      end_(tokenizer.encode(syntax.reasoning_ends.front(), {.add_special = false, .parse_special = true})) {}

void ReasoningWatch::take(int32_t token) {
  if (parser_.is_in_reasoning()) ++n_tokens_;
  const std::string bytes = limit_.tokenizer_.token_bytes(token, true);
  parser_.push(characters_.push(bytes));
  constexpr size_t kMaxCharacter = 4;
  last_bytes_ += bytes;
  if (last_bytes_.size() > kMaxCharacter) last_bytes_.erase(0, last_bytes_.size() - kMaxCharacter);
}

bool ReasoningWatch::is_spent() const {
  return parser_.is_in_reasoning() && n_tokens_ >= limit_.max_tokens_ && n_unfinished_utf8(last_bytes_) == 0;
}

}  // namespace millrace
