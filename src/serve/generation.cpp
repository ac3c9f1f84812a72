#include "serve/generation.h"

#include <algorithm>
#include <functional>

namespace millrace {
namespace {

ApiError refused(const Engine::Submitted& submitted) {
  const bool is_full = submitted.reason == RefusalReason::queue_full;
  const bool passes = is_full || submitted.reason == RefusalReason::rate;
  const bool is_lost = submitted.reason == RefusalReason::device_lost;
  ApiError error(is_lost ? 503 : passes ? 429 : 400, submitted.refusal, {}, is_full ? "queue_full" : "");
  error.retry_after_s = submitted.retry_after_s;
  return error;
}

// What continues the last event is one with it.
void add(std::vector<OutputEvent>& output, OutputEvent event) {
  using Kind = OutputEvent::Kind;
  const bool is_text = event.kind != Kind::call_begin && event.kind != Kind::call_end;
  if (is_text && event.text.empty()) return;
  if (is_text && !output.empty() && output.back().kind == event.kind) {
    output.back().text += event.text;
  } else {
    output.push_back(std::move(event));
  }
}

// Of the tokens of a choice. One without tokens is the best that can be had with certainty.
double mean_logprob(const Piece& piece) {
  double sum = 0.0;
  for (const GeneratedToken& token : piece.tokens) sum += double{token.logprobs->chosen};
  return piece.tokens.empty() ? 0.0 : sum / static_cast<double>(piece.tokens.size());
}

}  // namespace

Generation::Generation(const ServedModel& model, Ask ask, Clock::time_point arrived, Metrics& metrics)
    : model_(model), ask_(std::move(ask)), arrived_(arrived), metrics_(metrics) {}

Generation::~Generation() {
  if (n_open_ == 0) return;
  for (const Batch& batch : batches_) model_.engine.cancel(batch.ticket.id);
}

double Generation::seconds() const { return std::chrono::duration<double>(Clock::now() - arrived_).count(); }

std::optional<ApiError> Generation::submit() {
  for (const Ask::Choice& choice : ask_.choices) {
    Run& run = runs_.emplace_back();
    run.text = TextStream(choice.stops);
    if (choice.output) run.parser.emplace(*choice.output->syntax, choice.output->parser);
    run.usage.n_prompt = std::ssize(choice.request.prompt);
    run.piece.choice = n_open_++;
    run.piece.text = choice.prefix;
  }
  for (size_t first = 0; first < ask_.choices.size();) {
    Request request = ask_.choices[first].request;
    const int n = n_at_once(first);
    request.n = n;
    Engine::Submitted submitted = model_.engine.submit(std::move(request));
    if (!submitted.ticket) return refused(submitted);
    batches_.push_back({std::move(*submitted.ticket), first, static_cast<size_t>(n), {}});
    first += static_cast<size_t>(n);
  }
  is_submitted_ = true;
  return std::nullopt;
}

// The choices of one prompt from this one on, as many as run at once: their seeds are those that the engine
// gives the answers to one request.
int Generation::n_at_once(size_t first) const {
  const int64_t most = model_.engine.options().max_sequences;
  int n = 1;
  for (size_t i = first + 1; i < ask_.choices.size() && n < most; ++i, ++n) {
    if (ask_.choices[i].prompt != ask_.choices[first].prompt) break;
  }
  return n;
}

void Generation::advance(std::string& out) {
  if (is_done()) return;
  for (Batch& batch : batches_) {
    while (!is_done()) {
      auto event = batch.ticket.events->try_pop();
      if (!event) break;
      if (!event->prompt_logprobs.empty()) take_prompt(batch, std::move(event->prompt_logprobs));
      Run& run = runs_[batch.first + static_cast<size_t>(event->index)];
      if (!run.is_open) continue;
      take(batch, run, *event);
      if (ask_.is_streamed) send(run, out);
    }
  }
  count();
  if (fault_) {
    if (ask_.is_streamed) ask_.encoder->fault(*fault_, out);
    return;
  }
  if (n_open_ > 0) return;
  if (ask_.is_streamed) {
    ask_.encoder->end(totals_, out);
    return;
  }
  out += ask_.encoder->whole(given_pieces(), totals_);
}

// What the encoder is given: all choices, or the best of each prompt.
std::vector<Piece> Generation::given_pieces() {
  std::vector<Piece> given;
  for (size_t begin = 0, end; begin < runs_.size(); begin = end) {
    std::vector<Piece> pieces;
    for (end = begin; end < runs_.size() && ask_.choices[end].prompt == ask_.choices[begin].prompt; ++end)
      pieces.push_back(std::move(runs_[end].piece));
    if (ask_.n_best > 0) {
      std::ranges::stable_sort(pieces, std::greater(), mean_logprob);
      pieces.resize(ask_.n_best);
    }
    for (Piece& piece : pieces) {
      piece.choice = given.size();
      given.push_back(std::move(piece));
    }
  }
  return given;
}

// Nothing of its choices was sent yet.
void Generation::take_prompt(Batch& batch, std::vector<TokenLogprobs> logprobs) {
  batch.prompt_logprobs = std::move(logprobs);
  for (size_t i = 0; i < batch.n; ++i) runs_[batch.first + i].piece.prompt_logprobs = batch.prompt_logprobs;
}

void Generation::take(const Batch& batch, Run& run, const Event& event) {
  run.usage.n_prompt = event.usage.n_prompt;
  run.usage.n_cached = event.usage.n_cached;
  if (run.piece.choice == 0) totals_.queue_s = event.usage.queue_s;
  if (event.token) take_token(batch, run, event);
  if (!run.is_open || !event.finish_reason) return;
  run.is_open = false;
  --n_open_;
  if (*event.finish_reason == FinishReason::error) {
    fault_ = ApiError(500, event.error);
    return;
  }
  if (*event.finish_reason == FinishReason::cancelled) {
    fault_ = ApiError(503, "the request was cancelled: the server ends");
    return;
  }
  if (run.parser) {
    take_output(run, run.parser->push(run.raw.flush()));
    take_output(run, run.parser->flush());
    add(run.piece.output, {OutputEvent::Kind::content, run.text.flush()});
  } else {
    run.piece.text += run.text.flush();
  }
  run.piece.embedding = event.embedding;
  end(run, *event.finish_reason);
}

void Generation::time_token(Run& run) {
  const Clock::time_point now = Clock::now();
  metrics_.count_token();
  if (run.last_token != Clock::time_point{})
    metrics_.count_gap(std::chrono::duration<double>(now - run.last_token).count());
  run.last_token = now;
  if (totals_.first_token_s > 0.0) return;
  totals_.first_token_s = seconds();
  metrics_.count_first_token(totals_.first_token_s);
}

void Generation::take_token(const Batch& batch, Run& run, const Event& event) {
  const Ask::Choice& choice = ask_.choices[run.piece.choice];
  time_token(run);
  ++run.usage.n_generated;
  run.piece.tokens.push_back({*event.token, event.logprobs});
  if (model_.tokenizer == nullptr) return;
  take_text(run, choice, *event.token);
  if (!run.text.is_stopped()) return;
  model_.engine.cancel(batch.ticket.id, event.index);
  run.is_open = false;
  --n_open_;
  end(run, FinishReason::stop);
}

void Generation::take_text(Run& run, const Ask::Choice& choice, int32_t token) {
  if (!run.parser) {
    run.piece.text += run.text.push(model_.tokenizer->token_bytes(token, choice.shows_special));
    return;
  }
  const bool is_sign = choice.shows_special || model_.chat_tools->is_sign(token);
  const bool was_in_reasoning = run.parser->is_in_reasoning();
  take_output(run, run.parser->push(run.raw.push(model_.tokenizer->token_bytes(token, is_sign))));
  if (was_in_reasoning || run.parser->is_in_reasoning()) ++run.n_reasoning;
}

void Generation::take_output(Run& run, std::vector<OutputEvent> events) {
  for (OutputEvent& event : events) {
    if (run.text.is_stopped()) return;
    const bool is_content = event.kind == OutputEvent::Kind::content;
    add(run.piece.output,
        {OutputEvent::Kind::content, is_content ? run.text.push(event.text) : run.text.flush()});
    run.calls_tools |= event.kind == OutputEvent::Kind::call_begin;
    if (!is_content) add(run.piece.output, std::move(event));
  }
}

// A stop string may also stand at the very end, where flush() finds it.
void Generation::end(Run& run, FinishReason reason) {
  const bool is_stopped = run.text.is_stopped();
  run.piece.ending =
      Ending{is_stopped ? FinishReason::stop : reason, std::string(run.text.stop()), run.calls_tools};
  if (is_stopped && ask_.choices[run.piece.choice].keeps_stop) {
    if (run.parser) {
      add(run.piece.output, {OutputEvent::Kind::content, std::string(run.text.stop())});
    } else {
      run.piece.text += run.text.stop();
    }
  }
  ended_ = name_of(run.piece.ending->reason);
}

// A piece each token, however many came together: what a client is sent does not depend on the load. Tokens
// whose text is held back wait for it.
void Generation::send(Run& run, std::string& out) {
  const bool has_begun = run.usage.n_generated > 0 || run.piece.ending;
  const bool says_nothing = run.piece.text.empty() && run.piece.output.empty();
  if (!has_begun || (says_nothing && !run.piece.ending)) return;
  count();
  ask_.encoder->piece(run.piece, totals_, out);
  const size_t choice = run.piece.choice;
  run.piece = Piece();
  run.piece.choice = choice;
}

void Generation::count() {
  totals_.n_prompt = totals_.n_cached = totals_.n_generated = totals_.n_reasoning = 0;
  for (const Run& run : runs_) {
    const size_t at = run.piece.choice;
    const bool is_first = at == 0 || ask_.choices[at - 1].prompt != ask_.choices[at].prompt;
    if (is_first) {
      totals_.n_prompt += run.usage.n_prompt;
      totals_.n_cached += run.usage.n_cached;
    }
    totals_.n_generated += run.usage.n_generated;
    totals_.n_reasoning += run.n_reasoning;
  }
  totals_.total_s = seconds();
}

}  // namespace millrace
