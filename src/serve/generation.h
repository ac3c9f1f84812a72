// An Ask on its way through the engine: submitted, its events turned into text, and that into the bytes of
// its dialect. All on the I/O thread.
#pragma once

#include <chrono>
#include <vector>

#include "serve/dialect.h"
#include "serve/metrics.h"
#include "text/text_stream.h"

namespace millrace {

class Generation {
 public:
  using Clock = std::chrono::steady_clock;

  Generation(const ServedModel& model, Ask ask, Clock::time_point arrived, Metrics& metrics);
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;
  ~Generation();  // cancels what still runs

  // All choices or none. Why not, where the engine refuses one.
  std::optional<ApiError> submit();

  // What the events since the last call make of the stream, appended to `out`. Not streamed: the whole body,
  // when it is there.
  void advance(std::string& out);
  bool is_done() const { return n_open_ == 0 || fault_; }
  bool is_submitted() const { return is_submitted_; }
  // What the engine could not do; in a stream it is already told.
  const std::optional<ApiError>& fault() const { return fault_; }

  bool is_streamed() const { return ask_.is_streamed; }
  const std::string& stream_type() const { return ask_.stream_type; }
  std::string keep_alive() const { return ask_.encoder->keep_alive(); }
  const Totals& totals() const { return totals_; }
  // "stop", "length", ...: how the last choice ended.
  std::string_view ended() const { return ended_; }

 private:
  // The choices of one prompt, which the engine computes as one request.
  struct Batch {
    Engine::Ticket ticket;
    size_t first, n;  // of the choices
    std::vector<TokenLogprobs> prompt_logprobs;
  };
  // One choice while it runs.
  struct Run {
    TextStream text;
    // Of a chat: the characters of all that the model writes, which the parser takes apart; `text` then holds
    // the answer alone.
    TextStream raw;
    std::optional<OutputParser> parser;
    bool calls_tools = false;
    int64_t n_reasoning = 0;
    Usage usage;
    Piece piece;  // what came and is not yet sent
    Clock::time_point last_token{};
    bool is_open = true;
  };

  int n_at_once(size_t first) const;
  void take_prompt(Batch& batch, std::vector<TokenLogprobs> logprobs);
  void take(const Batch& batch, Run& run, const Event& event);
  void take_token(const Batch& batch, Run& run, const Event& event);
  void take_text(Run& run, const Ask::Choice& choice, int32_t token);
  void take_output(Run& run, std::vector<OutputEvent> events);
  void time_token(Run& run);
  void end(Run& run, FinishReason reason);
  void send(Run& run, std::string& out);
  std::vector<Piece> given_pieces();
  void count();
  double seconds() const;

  const ServedModel& model_;
  const Ask ask_;
  const Clock::time_point arrived_;
  Metrics& metrics_;
  bool is_submitted_ = false;
  std::vector<Batch> batches_;
  std::vector<Run> runs_;  // one a choice
  size_t n_open_ = 0;
  Totals totals_;
  std::optional<ApiError> fault_;
  std::string_view ended_ = "cancelled";
};

}  // namespace millrace
