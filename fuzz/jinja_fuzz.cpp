// Chat templates: whatever the source, a template is made or refused, and a render ends within its budget.
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "text/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n_bytes) {
  static const millrace::Json kChat = millrace::Json::parse(
      R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"hi"},{"role":"assistant","content":null,
          "tool_calls":[{"function":{"name":"f","arguments":{"x":[1,2.5,true]}}}]}],
          "tools":[{"type":"function","function":{"name":"f"}}],"add_generation_prompt":true,"bos_token":"<s>"})",
      "the chat");
  try {
    millrace::ChatTemplate({reinterpret_cast<const char*>(data), n_bytes})
        .render(kChat, "2025-03-09T14:30:00");
  } catch (const millrace::Error&) {
  }
  return 0;
}
