// One answer of the engine as text: streamed while it comes, stopped by Ctrl-C, measured.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/engine.h"
#include "text/tokenizer.h"

namespace millrace {

struct Answer {
  std::string text;
  std::vector<int32_t> token_ids;
  FinishReason finish_reason = FinishReason::error;
  Usage usage;
  double first_token_s = 0.0;  // from submit to the first token
  double total_s = 0.0;
};

// Called with each new piece of text, whole characters only.
using OnText = std::function<void(std::string_view)>;

// Submits the request and waits for its end. `tokenizer` may be nullptr: then there is no text. SIGINT,
// caught by InterruptGuard, cancels the request. Throws Error(usage) with the engine's sentence when it is
// refused, and Error(runtime) when it fails.
Answer answer_of(Engine& engine, Request request, const Tokenizer* tokenizer,
                 const std::vector<std::string>& stops, const OnText& on_text);

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
