#include "cli/answer.h"

#include <atomic>
#include <csignal>
#include <cstdio>

#include "text/text_stream.h"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<bool> g_is_interrupted{false};  // the only thing a signal handler may touch

void note_interrupt(int) { g_is_interrupted = true; }

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Tokens in, the parts of an answer out.
class Reader {
 public:
  Reader(const AnswerReading& reading, Answer& answer)
      : reading_(reading), answer_(answer), text_(reading.stops) {
    if (reading.tools != nullptr) parser_.emplace(reading.tools->syntax(), reading.parser);
  }

  bool is_stopped() const { return text_.is_stopped(); }

  void take(int32_t token) {
    if (reading_.tokenizer == nullptr) return;
    const bool is_sign = parser_ && reading_.tools->is_sign(token);
    const std::string bytes(reading_.tokenizer->token_bytes(token, is_sign));
    if (parser_) {
      take(parser_->push(raw_.push(bytes)));
    } else {
      add_text(text_.push(bytes));
    }
  }

  void end() {
    if (parser_) {
      take(parser_->push(raw_.flush()));
      take(parser_->flush());
    }
    add_text(text_.flush());
  }

 private:
  void take(const std::vector<OutputEvent>& events) {
    using Kind = OutputEvent::Kind;
    for (const OutputEvent& event : events) {
      if (is_stopped()) return;
      add_text(event.kind == Kind::content ? text_.push(event.text) : text_.flush());
      if (event.kind == Kind::reasoning) {
        answer_.reasoning += event.text;
        show(event.text);
      }
      if (event.kind == Kind::call_begin) answer_.calls.push_back({event.text, {}});
      if (event.kind == Kind::arguments) answer_.calls.back().arguments += event.text;
    }
  }
  void add_text(std::string_view text) {
    if (text.empty()) return;
    if (answer_.text.empty() && !answer_.reasoning.empty()) show("\n\n");
    answer_.text += text;
    show(text);
  }
  void show(std::string_view text) const {
    if (reading_.on_text && !text.empty()) reading_.on_text(text);
  }

  const AnswerReading& reading_;
  Answer& answer_;
  TextStream text_;  // with stop strings: of what is no call and no reasoning
  TextStream raw_;   // of all that the parser takes apart
  std::optional<OutputParser> parser_;
};

}  // namespace

void print_at_once(std::string_view piece) {
  fmt::print("{}", piece);
  std::fflush(stdout);
}

InterruptGuard::InterruptGuard() {
  g_is_interrupted = false;
  std::signal(SIGINT, note_interrupt);
}
InterruptGuard::~InterruptGuard() { std::signal(SIGINT, SIG_DFL); }
bool InterruptGuard::is_interrupted() { return g_is_interrupted; }

Answer answer_of(Engine& engine, Request request, const AnswerReading& reading) {
  const Clock::time_point begin = Clock::now();
  const Engine::Submitted submitted = engine.submit(std::move(request));
  if (!submitted.ticket) throw Error(ErrorKind::usage, submitted.refusal);
  const Engine::Ticket& ticket = *submitted.ticket;

  Answer answer;
  Reader reader(reading, answer);
  bool is_cancelled = false;
  const auto cancel_once = [&] {
    if (!std::exchange(is_cancelled, true)) engine.cancel(ticket.id);
  };
  for (bool is_last = false; !is_last;) {
    const auto event = ticket.events->pop_until(Clock::now() + std::chrono::milliseconds(20));
    if (InterruptGuard::is_interrupted()) cancel_once();
    if (!event) continue;
    if (event->token && !reader.is_stopped()) {
      if (answer.token_ids.empty()) answer.first_token_s = seconds_since(begin);
      answer.token_ids.push_back(*event->token);
      reader.take(*event->token);
      if (reader.is_stopped()) cancel_once();
    }
    answer.usage = event->usage;
    is_last = event->finish_reason.has_value();
    if (is_last) answer.finish_reason = reader.is_stopped() ? FinishReason::stop : *event->finish_reason;
    if (!event->error.empty()) fail(ErrorKind::runtime, "{}", event->error);
  }
  reader.end();
  answer.usage.n_generated = static_cast<int64_t>(answer.token_ids.size());
  answer.total_s = seconds_since(begin);
  return answer;
}

}  // namespace millrace
