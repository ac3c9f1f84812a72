#include "text/tokenizers/end_tokens.h"

#include <algorithm>
#include <string_view>

namespace millrace {
namespace {

constexpr std::string_view kEndTexts[] = {"<|eot_id|>",    "<|im_end|>",         "<|end|>",
                                          "<|return|>",    "<|call|>",           "<end_of_turn>",
                                          "<|endoftext|>", "<|eom_id|>",         "<EOT>",
                                          "_<EOT>",        "<|end_of_text|>",    "[EOT]",
                                          "[EOS]",         "<end_of_utterance>", "<｜end▁of▁sentence｜>",
                                          "</s>"};

}  // namespace

std::vector<int32_t> find_end_tokens(const Vocabulary& vocabulary,
                                     std::span<const std::optional<int32_t>> named) {
  std::vector<int32_t> ids;
  for (const auto& id : named) {
    if (id) ids.push_back(*id);
  }
  for (const std::string_view text : kEndTexts) {
    if (const auto id = vocabulary.find(text)) ids.push_back(*id);
  }
  // gpt-oss ends a message within an answer by <|end|>, and the answer by <|return|>.
  const auto end = vocabulary.find("<|end|>");
  if (end && vocabulary.find("<|return|>")) std::erase(ids, *end);
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace millrace
