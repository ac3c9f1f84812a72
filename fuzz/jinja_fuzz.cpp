// Any bytes as a chat template, rendered with a fixed chat: a text or an Error, in bounded time and memory.
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "text/chat_template.h"

namespace {

constexpr std::string_view kChat = R"({
  "messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Zürich?\n"},
    {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, 2.5]}}}]}],
  "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "array"}}}}}],
  "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>"
})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const millrace::Json chat = millrace::Json::parse(kChat, "the chat");
  try {
    const std::string_view source(reinterpret_cast<const char*>(data), size);
    millrace::ChatTemplate(source).render(chat, "2026-01-15T09:30:00");
  } catch (const millrace::Error&) {
  }
  return 0;
}
