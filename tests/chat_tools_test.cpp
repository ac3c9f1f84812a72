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

// The prompt of a conversation whose model is told of the tools.
std::string prompt_of(const ChatPrompt& chat, const ChatTools& chat_tools, Json::Array messages) {
  Json variables;
  variables["tools"] = tools();
  chat_tools.adapt(messages, variables);
  return chat.render(messages, variables);
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
    n_native += chat_tools.tells_tools() && chat_tools.writes_calls() ? 1 : 0;
    // Whoever words the calls, the model reasons in its own way.
    EXPECT_EQ(chat_tools.syntax().reasoning_begins, syntax_of_template(source).reasoning_begins);
    for (const bool has_calls : {false, true}) {
      Json::Array messages = conversation();
      if (!renders(chat, {message("system", "?"), message("user", "?")})) messages.erase(messages.begin());
      if (!has_calls) messages.resize(messages.size() - 3);
      const std::string prompt = prompt_of(chat, chat_tools, std::move(messages));
      EXPECT_NE(prompt.find("read_file"), std::string::npos);
      if (!has_calls) continue;
      for (const char* part : {"one.txt", "two.txt", "it says 111", "it says 222"})
        EXPECT_NE(prompt.find(part), std::string::npos) << part;
    }
  }
  EXPECT_GE(n_native, 31u);
}

// Templates that know a part of it are told the rest in the words of their own family.
TEST(ChatTools, WhatATemplateDoesNotWriteIsInTheWordsOfItsFamily) {
  if (!std::filesystem::exists(kTemplates))
    GTEST_SKIP() << "needs the corpus of published chat templates (MILLRACE_DATA_DIR)";
  const ListTokenizer tokenizer = ListTokenizer::of_bytes({"<s>", "</s>"});
  const struct {
    const char *file, *syntax;
    bool tells, calls, results;
    const char* written;  // of the first call
  } cases[] = {
      {"deepseek-ai-DeepSeek-V3.1", "deepseek_v31", false, true, true,
       "<｜tool▁call▁begin｜>read_file<｜tool▁sep｜>{\"path\": \"one.txt\"}"},
      {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "deepseek_r1", false, true, true,
       "read_file\n```json\n{\"path\": \"one.txt\"}\n```"},
      {"llama-cpp-deepseek-r1", "deepseek_r1", false, true, true,
       "read_file\n```json\n{\"path\": \"one.txt\"}\n```"},
      {"Kimi-K2-Instruct", "kimi", true, false, true,
       "functions.read_file:0<|tool_call_argument_begin|>{\"path\":\"one.txt\"}"},
      {"Kimi-K2-Thinking", "kimi", true, false, true,
       "functions.read_file:0<|tool_call_argument_begin|>{\"path\":\"one.txt\"}"},
      {"LFM2-8B-A1B", "lfm", true, false, true,
       "<|tool_call_start|>[read_file(path=\"one.txt\"), read_file("},
      {"LFM2.5-Instruct", "lfm", true, false, true,
       "<|tool_call_start|>[read_file(path=\"one.txt\"), read_file("},
      {"unsloth-Apriel-1.5", "apriel", true, true, true,
       "<tool_calls>[{\"name\": \"read_file\", \"arguments\": {\"path\": \"one.txt\"}"},
      {"Apriel-1.6-15b-Thinker-fixed", "apriel", true, true, true, "<tool_calls>[{\"name\": \"read_file\""},
      {"GigaChat3-10B-A1.8B", "gigachat_role", true, true, true,
       "function call<|role_sep|>\n{\"name\": \"read_file\""},
      {"GigaChat3.1-10B-A1.8B", "gigachat", true, true, true, "<|function_call|>{\"name\": \"read_file\""},
      {"Apertus-8B-Instruct", "apertus", true, true, true,
       "<|tools_prefix|>[{\"read_file\": {\"path\": \"one.txt\"}}"},
      {"meetkai-functionary-medium-v3.2", "functionary2", true, true, true,
       ">>>read_file\n{\"path\":\"one.txt\"}"},
      {"ibm-granite-granite-3.3-2B-Instruct", "granite", true, false, true,
       "<|tool_call|>[{\"name\": \"read_file\""},
      {"CohereForAI-c4ai-command-r-plus-tool_use", "command_r", true, true, true, "Action:\n```json\n["},
      {"HuggingFaceTB-SmolLM3-3B", "hermes", false, false, false, "<tool_call>\n{\"name\": \"read_file\""},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.file);
    const std::string source = read_file(kTemplates / (std::string(c.file) + ".jinja"), size_t{1} << 24);
    const ChatPrompt chat(tokenizer, source);
    const ChatTools chat_tools(chat, source, tokenizer);
    EXPECT_EQ(chat_tools.syntax().name, c.syntax);
    EXPECT_EQ(chat_tools.tells_tools(), c.tells);
    EXPECT_EQ(chat_tools.writes_calls(), c.calls);
    EXPECT_EQ(chat_tools.writes_results(), c.results);
    const std::string prompt = prompt_of(chat, chat_tools, conversation());
    EXPECT_NE(prompt.find(c.written), std::string::npos) << prompt;
  }
}

// As published with Phi-4-mini: tools are a text in the message of the system.
TEST(ChatTools, PhiIsToldInItsSystemMessage) {
  constexpr std::string_view kPhi =
      "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and "
      "message['tools'] is not "
      "none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + "
      "'<|/tool|>' + "
      "'<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif "
      "%}{% endfor %}{% if "
      "add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}";
  const ListTokenizer tokenizer = ListTokenizer::of_bytes({"<s>", "</s>"});
  const ChatPrompt chat(tokenizer, kPhi);
  const ChatTools chat_tools(chat, kPhi, tokenizer);
  EXPECT_EQ(chat_tools.syntax().name, "phi");
  const std::string prompt = prompt_of(chat, chat_tools, conversation());
  EXPECT_NE(prompt.find("<|system|>be brief<|tool|>[{\"name\":\"read_file\""), std::string::npos) << prompt;
  EXPECT_NE(
      prompt.find(
          "<|assistant|><|tool_call|>[{\"name\": \"read_file\", \"arguments\": {\"path\":\"one.txt\"}}, "),
      std::string::npos)
      << prompt;
  EXPECT_NE(prompt.find("<|tool|>it says 111<|end|>"), std::string::npos) << prompt;
}

}  // namespace
}  // namespace millrace
