// How long a chat takes to become a prompt, and a template to compile.
//   chat_template_bench TEMPLATE.jinja [N_MESSAGES]    a chat of so many messages (default 10) of 200
//   characters
// Render prints the size of the prompt beside its time: memory bandwidth is the limit it is far below.
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <cstdlib>
#include <exception>
#include <string>

#include "base/file.h"
#include "text/chat_template.h"

namespace millrace {
namespace {

Json make_chat(int64_t n_messages) {
  Json::Array messages;
  for (int64_t i = 0; i < n_messages; ++i) {
    Json message;
    message["role"] = i % 2 == 0 ? "user" : "assistant";
    message["content"] = std::string(200, static_cast<char>('a' + i % 26));
    messages.push_back(std::move(message));
  }
  Json chat;
  chat["messages"] = std::move(messages);
  chat["add_generation_prompt"] = true;
  chat["bos_token"] = "<s>";
  chat["eos_token"] = "</s>";
  return chat;
}

void compile_template(benchmark::State& state, const std::string& source) {
  for (auto unused : state) benchmark::DoNotOptimize(ChatTemplate(source));
  state.SetBytesProcessed(static_cast<int64_t>(source.size() * state.iterations()));
}

void render_chat(benchmark::State& state, const std::string& source, int64_t n_messages) {
  const ChatTemplate chat_template(source);
  const Json chat = make_chat(n_messages);
  size_t n_bytes = 0;
  for (auto unused : state) n_bytes = chat_template.render(chat, "2026-01-15T09:30:00").size();
  state.counters["prompt_bytes"] = static_cast<double>(n_bytes);
  state.SetBytesProcessed(static_cast<int64_t>(n_bytes * state.iterations()));
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc < 2) {
    fmt::print(stderr, "expected a template: chat_template_bench TEMPLATE.jinja [N_MESSAGES]\n");
    return 2;
  }
  try {
    const std::string source = millrace::read_file(argv[1], size_t{1} << 20);
    const int64_t n_messages = argc > 2 ? std::atoll(argv[2]) : 10;
    benchmark::RegisterBenchmark("compile", millrace::compile_template, source);
    benchmark::RegisterBenchmark("render", millrace::render_chat, source, n_messages);
    benchmark::RunSpecifiedBenchmarks();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
