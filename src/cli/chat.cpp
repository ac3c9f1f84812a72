#include "cli/chat.h"

#include "cli/line_editor.h"

namespace millrace {
namespace {

constexpr const char* kHelp =
    "/help           this list\n"
    "/clear          forget the conversation\n"
    "/system TEXT    set the system message and forget the conversation\n"
    "/retry          answer the last question again\n"
    "/exit           leave (or Ctrl-D)\n"
    "A line that ends in \\ goes on in the next one; \"\"\" begins and ends a text of several lines.\n"
    "Ctrl-C stops an answer.\n";

// One message: a line, lines joined by a trailing \, or what stands between two """.
std::optional<std::string> read_message(LineEditor& editor) {
  std::optional<std::string> line = editor.read("> ");
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

}  // namespace

ChatPrompt chat_prompt_of(const LoadedModel& loaded, std::optional<bool> thinking) {
  const Tokenizer& tokenizer = loaded.need_tokenizer();
  if (!loaded.template_source) {
    fail(ErrorKind::bad_model, "the model has no chat template: use --raw to continue a text instead");
  }
  ChatPrompt prompt(tokenizer, *loaded.template_source);
  if (thinking && !prompt.set_thinking(*thinking))
    fail(ErrorKind::usage, "--think and --no-think: this model's chat template has no switch for reasoning");
  return prompt;
}

Chat::Chat(Engine& engine, const LoadedModel& loaded, Request request, std::vector<std::string> stops,
           std::optional<bool> thinking)
    : engine_(engine),
      loaded_(loaded),
      prompt_(chat_prompt_of(loaded, thinking)),
      request_(std::move(request)),
      stops_(std::move(stops)) {}

void Chat::set_system(std::string text) {
  system_ = std::move(text);
  history_.clear();
}

void Chat::run() {
  LineEditor editor;
  fmt::print("/help lists what you can do here.\n");
  while (const auto text = read_message(editor)) {
    if (text->empty()) continue;
    if (text->starts_with('/')) {
      if (!obey(*text)) return;
    } else {
      answer(*text);
    }
  }
  fmt::print("\n");
}

bool Chat::obey(const std::string& command) {
  const std::string name = command.substr(0, command.find(' '));
  if (name == "/exit" || name == "/quit" || name == "/bye") return false;
  if (name == "/clear") {
    history_.clear();
  } else if (name == "/system") {
    set_system(command.size() > name.size() ? command.substr(name.size() + 1) : "");
  } else if (name == "/retry" && history_.size() >= 2) {
    history_.pop_back();
    const std::string question = history_.back().at("content").as_string();
    history_.pop_back();
    ++request_.sampling.seed;
    answer(question);
  } else {
    if (name != "/help") fmt::print("{} is nothing I know here.\n", printable(name));
    fmt::print("{}", kHelp);
  }
  return true;
}

Json::Array Chat::messages() const {
  Json::Array all;
  if (!system_.empty()) all.push_back(message("system", system_));
  all.insert(all.end(), history_.begin(), history_.end());
  return all;
}

// A question that cannot be answered (too long, a template that refuses it) is reported and forgotten.
void Chat::answer(const std::string& text) {
  history_.push_back(message("user", text));
  try {
    Request request = request_;
    request.prompt = prompt_.encode(messages());
    const InterruptGuard guard;
    const Answer answer =
        answer_of(engine_, std::move(request), loaded_.tokenizer.get(), stops_, [](std::string_view piece) {
          fmt::print("{}", piece);
          std::fflush(stdout);
        });
    fmt::print("{}\n", answer.finish_reason == FinishReason::cancelled ? " [stopped]"
                       : answer.finish_reason == FinishReason::length
                           ? " [cut: the limit of tokens or the context is reached]"
                           : "");
    history_.push_back(message("assistant", answer.text));
  } catch (const Error& error) {
    history_.pop_back();
    fmt::print(stderr, "{}\n", error.what());
  }
}

}  // namespace millrace
