// One answer of the engine as text: streamed while it comes, taken apart where it may hold calls of tools,
// stopped by Ctrl-C, measured.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/engine.h"
#include "text/chat_tools.h"
#include "text/output/output_parser.h"
#include "text/tokenizer.h"

namespace millrace {

struct Answer {
  std::string text;       // where it is taken apart, what is neither reasoning nor a call
  std::string reasoning;  // empty where it is not
  struct Call {
    std::string name, arguments;
  };
  std::vector<Call> calls;  // the last one is broken where the answer was
  std::vector<int32_t> token_ids;
  FinishReason finish_reason = FinishReason::error;
  Usage usage;
  double first_token_s = 0.0;  // from submit to the first token
  double total_s = 0.0;
};

// Called with each new piece of text, whole characters only.
using OnText = std::function<void(std::string_view)>;
// To standard output, where it is seen before the next piece comes.
void print_at_once(std::string_view piece);

// How its tokens are read.
struct AnswerReading {
  const Tokenizer* tokenizer = nullptr;  // nullptr: there is no text
  std::vector<std::string> stops;        // that end the text
  const ChatTools* tools = nullptr;      // nullptr: it is not taken apart
  OutputParser::Options parser{};        // of that
  OnText on_text{};                      // may be empty; is given the reasoning, too
};

// Submits the request and waits for its end. SIGINT, caught by InterruptGuard, cancels it. Throws
// Error(usage) with the engine's sentence when it is refused, and Error(runtime) when it fails.
Answer answer_of(Engine& engine, Request request, const AnswerReading& reading);

// While it lives, SIGINT sets a flag and ends nothing.
class InterruptGuard {
 public:
  InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  ~InterruptGuard();

  static bool is_interrupted();
};

}  // namespace millrace
