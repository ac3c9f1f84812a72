// Every published template: tools, calls and results reach the prompt, in its own words or in ours.
#include "text/chat_tools.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "base/file.h"
#include "grammar/testing/list_tokenizer.h"

namespace millrace {
namespace {

const std::filesystem::path kTemplates = std::filesystem::path(MILLRACE_DATA_DIR) / "corpus/chat_templates";

Json tools() {
  return Json::parse(
      R"([{"type": "function", "function": {"name": "read_file", "description": "Reads.", "parameters":
          {"type": "object", "properties": {"path": {"type": "string", "description": "A path."}},
           "required": ["path"]}}}])",
      "tools");
}

Json call(std::string_view id, std::string_view path) {
  Json out;
  out["id"] = id;
  out["type"] = "function";
  out["function"]["name"] = "read_file";
  out["function"]["arguments"]["path"] = path;
  return out;
}

Json result(std::string_view id, std::string_view text) {
  Json out = message("tool", text);
  out["tool_call_id"] = id;
  out["name"] = "read_file";
  return out;
}

Json::Array conversation() {
  Json calling = message("assistant", "");
  calling["tool_calls"] = Json::Array{call("call_0001", "one.txt"), call("call_0002", "two.txt")};
  return {message("system", "be brief"), message("user", "read them"), std::move(calling),
          result("call_0001", "it says 111"), result("call_0002", "it says 222")};
}

bool renders(const ChatPrompt& chat, const Json::Array& messages) {
  try {
    return !chat.render(messages, {}).empty();
  } catch (const Error&) {
    return false;
  }
}

TEST(ChatTools, ReachThePromptOfEveryPublishedTemplate) {
  if (!std::filesystem::exists(kTemplates))
    GTEST_SKIP() << "needs the corpus of published chat templates (MILLRACE_DATA_DIR)";
  const ListTokenizer tokenizer = ListTokenizer::of_bytes({"<s>", "</s>"});
  size_t n_native = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kTemplates)) {
    SCOPED_TRACE(entry.path().filename().string());
    const std::string source = read_file(entry.path(), size_t{1} << 24);
    const ChatPrompt chat(tokenizer, source);
    if (!renders(chat, {message("user", "?"), message("assistant", "!"), message("user", "?")}))
      continue;  // none it can write
    const ChatTools chat_tools(chat, source, tokenizer);
    n_native += chat_tools.is_native() ? 1 : 0;
    // Whoever words the calls, the model reasons in its own way.
    EXPECT_EQ(chat_tools.syntax().reasoning_begins, syntax_of_template(source).reasoning_begins);
    for (const bool has_calls : {false, true}) {
      Json::Array messages = conversation();
      if (!renders(chat, {message("system", "?"), message("user", "?")})) messages.erase(messages.begin());
      if (!has_calls) messages.resize(messages.size() - 3);
      Json variables;
      variables["tools"] = tools();
      chat_tools.adapt(messages, variables);
      const std::string prompt = chat.render(messages, variables);
      EXPECT_NE(prompt.find("read_file"), std::string::npos);
      if (!has_calls) continue;
      for (const char* part : {"one.txt", "two.txt", "it says 111", "it says 222"})
        EXPECT_NE(prompt.find(part), std::string::npos) << part;
    }
  }
  EXPECT_GE(n_native, 31u);
}

}  // namespace
}  // namespace millrace
