#include "cli/chat.h"

#include <unistd.h>

#include <cstdio>

namespace millrace {
namespace {

constexpr const char* kHelp =
    "/help           this list\n"
    "/clear          forget the conversation\n"
    "/system TEXT    set the system message and forget the conversation\n"
    "/retry          answer the last question again\n"
    "/exit           leave (or Ctrl-D)\n"
    "A line that ends in \\ goes on in the next one; \"\"\" begins and ends a text of several lines.\n"
    "Ctrl-C stops an answer. What is typed behind result> is what the tool that was called returns.\n";

// One message: a line, lines joined by a trailing \, or what stands between two """.
std::optional<std::string> read_message(LineEditor& editor, const std::string& prompt) {
  std::optional<std::string> line = editor.read(prompt);
  if (!line) return std::nullopt;
  std::string text;
  if (line->starts_with("\"\"\"")) {
    text = line->substr(3);
    while (!text.ends_with("\"\"\"") && (line = editor.read(". "))) text += "\n" + *line;
    if (text.ends_with("\"\"\"")) text.resize(text.size() - 3);
    return text;
  }
  while (line && line->ends_with('\\')) {
    line->pop_back();
    text += *line + "\n";
    line = editor.read(". ");
  }
  return text + line.value_or("");
}

std::string_view note_of(FinishReason reason) {
  if (reason == FinishReason::cancelled) return " [stopped]";
  if (reason == FinishReason::length) return " [cut: the limit of tokens or the context is reached]";
  return "";
}

}  // namespace

void Chat::run() {
  fmt::print("/help lists what you can do here.\n");
  while (const auto text = read_message(editor_, "> ")) {
    if (text->empty()) continue;
    if (!(text->starts_with('/') ? obey(*text) : answer(*text))) return;
  }
  fmt::print("\n");
}

bool Chat::obey(const std::string& command) {
  const std::string name = command.substr(0, command.find(' '));
  if (name == "/exit" || name == "/quit" || name == "/bye") return false;
  if (name == "/clear") {
    conversation_.begin_again();
    return true;
  }
  if (name == "/system") {
    conversation_.begin_again(command.size() > name.size() ? command.substr(name.size() + 1) : "");
    return true;
  }
  if (const auto question = name == "/retry" ? conversation_.take_back() : std::nullopt) {
    conversation_.change_seed();
    return answer(*question);
  }
  if (name != "/help") fmt::print("{} is nothing I know here.\n", printable(name));
  fmt::print("{}", kHelp);
  return true;
}

// A question that cannot be answered (too long, a template that refuses it) is reported and forgotten.
bool Chat::answer(const std::string& question) {
  try {
    const auto print = [](const Answer& answer) { fmt::print("{}\n", note_of(answer.finish_reason)); };
    {
      const InterruptGuard guard;
      print(conversation_.ask(question, print_at_once));
    }
    while (!conversation_.open_calls().empty()) {
      if (!answer_calls()) return false;
      const InterruptGuard guard;
      print(conversation_.go_on(print_at_once));
    }
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
  }
  return true;
}

// False at the end of the input.
bool Chat::answer_calls() {
  for (const Conversation::Call& call : std::vector(conversation_.open_calls())) {
    fmt::print("{}\n", shown(call));
    const auto result = read_message(editor_, "result> ");
    if (!result) return false;
    conversation_.give_result(call, *result);
  }
  return true;
}

}  // namespace millrace
