#include "cli/conversation.h"

#include <algorithm>

#include "cli/command.h"
#include "cli/standard_input.h"
#include "serve/answer_hold.h"

namespace millrace {
namespace {

constexpr size_t kMaxResultBytes = size_t{1} << 20;

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

// What the model is told of a command's end.
std::string result_of(const CommandResult& done) {
  std::string out = valid_utf8(done.output);
  if (done.is_cut) out += fmt::format("\n[cut after {} bytes]", kMaxResultBytes);
  if (done.status != 0) out += fmt::format("\n[the command ended with status {}]", done.status);
  return out;
}

}  // namespace

Json call_of_api(const Conversation::Call& call) {
  Json out;
  out["id"] = call.id;
  out["type"] = "function";
  out["function"]["name"] = call.name;
  out["function"]["arguments"] = call.arguments.dump();
  return out;
}

std::string shown(const Conversation::Call& call) {
  return fmt::format("call {} {}", call.name, call.arguments.dump());
}

Conversation::Conversation(Engine& engine, const LoadedModel& loaded, Request request, Options options)
    : engine_(engine),
      tokenizer_(loaded.need_tokenizer()),
      prompt_(chat_prompt_of(loaded, options.thinking)),
      chat_tools_(prompt_, *loaded.template_source, tokenizer_),
      grammars_(tokenizer_, static_cast<int32_t>(loaded.model->shape().n_vocab)),
      request_(std::move(request)),
      options_(std::move(options)) {
  if (options_.max_reasoning && !chat_tools_.has_reasoning())
    fail(ErrorKind::usage, "--thinking-budget: the model's chat template knows no reasoning");
}

void Conversation::begin_again(std::string system) {
  options_.system = std::move(system);
  begin_again();
}

std::optional<std::string> Conversation::take_back() {
  while (!messages_.empty()) {
    const Json last = std::move(messages_.back());
    messages_.pop_back();
    if (last.at("role") == Json("user")) return last.at("content").as_string();
  }
  return std::nullopt;
}

Answer Conversation::ask(const std::string& question, const OnText& on_text) {
  const size_t n_before = messages_.size();
  messages_.push_back(message("user", question));
  try {
    return go_on(on_text);
  } catch (...) {
    messages_.resize(n_before);
    open_calls_.clear();
    throw;
  }
}

Answer Conversation::go_on(const OnText& on_text) {
  for (;;) {
    Answer answer = next(on_text);
    note(answer);
    if (open_calls_.empty()) return answer;
    run_commands();
    if (!open_calls_.empty() || InterruptGuard::is_interrupted()) return answer;
  }
}

Answer Conversation::next(const OnText& on_text) {
  Request request = request_;
  request.prompt = prompt();
  AnswerReading reading{.tokenizer = &tokenizer_, .stops = options_.stops, .on_text = on_text};
  const ToolUse& tools = options_.tools;
  if (tools.callable || options_.content || options_.max_reasoning) {
    const ChatModel model{chat_tools_, tokenizer_, grammars_};
    const AnswerHold hold{
        .tools = tools.callable,
        .are_required = tools.are_required && messages_.back().at("role") == Json("user"),
        .content = options_.content ? &*options_.content : nullptr,
        .max_reasoning = options_.max_reasoning,
    };
    reading.parser = hold_answer(model, hold, end_of(model, request.prompt), request);
    if (tools.callable) reading.tools = &chat_tools_;
  }
  return answer_of(engine_, std::move(request), reading);
}

// A call that was cut is none.
void Conversation::note(const Answer& answer) {
  open_calls_.clear();
  if (answer.finish_reason == FinishReason::stop) {
    for (const Answer::Call& call : answer.calls)
      open_calls_.push_back({fmt::format("call_{}", ++n_calls_), call.name,
                             Json::parse(call.arguments, "the arguments of a call", ErrorKind::runtime)});
  }
  Json said = message("assistant", answer.text);
  if (!answer.reasoning.empty()) said["reasoning_content"] = answer.reasoning;
  if (!open_calls_.empty()) {
    Json::Array calls;
    for (const Call& call : open_calls_) {
      calls.push_back(call_of_api(call));
      calls.back()["function"]["arguments"] = call.arguments;
    }
    said["tool_calls"] = std::move(calls);
  }
  messages_.push_back(std::move(said));
}

void Conversation::run_commands() {
  for (const Call& call : std::vector<Call>(open_calls_)) {
    const auto command = options_.tools.commands.find(call.name);
    if (command == options_.tools.commands.end()) continue;
    fmt::print(stderr, "{}\n", shown(call));
    give_result(call, result_of(run_command(command->second, call.arguments.dump(), kMaxResultBytes)));
    if (InterruptGuard::is_interrupted()) return;
  }
}

void Conversation::give_result(const Call& call, std::string_view result) {
  Json said = message("tool", result);
  said["tool_call_id"] = call.id;
  said["name"] = call.name;
  messages_.push_back(std::move(said));
  std::erase_if(open_calls_, [id = call.id](const Call& open) { return open.id == id; });
}

Json::Array Conversation::messages_of_api() const {
  Json::Array out = messages_;
  for (Json& said : out) {
    if (said.find("tool_calls") == nullptr) continue;
    for (Json& call : said["tool_calls"].as_array()) {
      Json& arguments = call["function"]["arguments"];
      arguments = arguments.dump();
    }
  }
  return out;
}

std::vector<int32_t> Conversation::prompt() const {
  Json::Array all;
  if (!options_.system.empty()) all.push_back(message("system", options_.system));
  all.insert(all.end(), messages_.begin(), messages_.end());
  Json variables = Json::Object();
  if (options_.tools.callable) {
    variables["tools"] = options_.tools.tools;
    chat_tools_.adapt(all, variables);
  }
  return prompt_.encode(all, variables);
}

}  // namespace millrace
