#include "cli/answer.h"

#include <atomic>
#include <csignal>

#include "text/text_stream.h"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<bool> g_is_interrupted{false};  // the only thing a signal handler may touch

void note_interrupt(int) { g_is_interrupted = true; }

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

InterruptGuard::InterruptGuard() {
  g_is_interrupted = false;
  std::signal(SIGINT, note_interrupt);
}
InterruptGuard::~InterruptGuard() { std::signal(SIGINT, SIG_DFL); }
bool InterruptGuard::is_interrupted() { return g_is_interrupted; }

Answer answer_of(Engine& engine, Request request, const Tokenizer* tokenizer,
                 const std::vector<std::string>& stops, const OnText& on_text) {
  const Clock::time_point begin = Clock::now();
  const Engine::Submitted submitted = engine.submit(std::move(request));
  if (!submitted.ticket) throw Error(ErrorKind::usage, submitted.refusal);
  const Engine::Ticket& ticket = *submitted.ticket;

  Answer answer;
  TextStream stream(stops);
  const auto emit = [&](std::string_view piece) {
    answer.text += piece;
    if (!piece.empty() && on_text) on_text(piece);
  };
  bool is_cancelled = false;
  const auto cancel_once = [&] {
    if (!std::exchange(is_cancelled, true)) engine.cancel(ticket.id);
  };
  for (bool is_last = false; !is_last;) {
    const auto event = ticket.events->pop_until(Clock::now() + std::chrono::milliseconds(20));
    if (InterruptGuard::is_interrupted()) cancel_once();
    if (!event) continue;
    if (event->token && !stream.is_stopped()) {
      if (answer.token_ids.empty()) answer.first_token_s = seconds_since(begin);
      answer.token_ids.push_back(*event->token);
      if (tokenizer != nullptr) emit(stream.push(tokenizer->token_bytes(*event->token, false)));
      if (stream.is_stopped()) cancel_once();
    }
    answer.usage = event->usage;
    is_last = event->finish_reason.has_value();
    if (is_last) answer.finish_reason = stream.is_stopped() ? FinishReason::stop : *event->finish_reason;
    if (!event->error.empty()) fail(ErrorKind::runtime, "{}", event->error);
  }
  emit(stream.flush());
  answer.usage.n_generated = static_cast<int64_t>(answer.token_ids.size());
  answer.total_s = seconds_since(begin);
  return answer;
}

}  // namespace millrace
