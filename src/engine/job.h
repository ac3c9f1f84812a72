// A request while the engine answers it. The engine thread owns it; its client holds the events too.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "base/channel.h"
#include "engine/constraint.h"
#include "engine/reasoning_limit.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/sequence.h"
#include "model/model.h"

namespace millrace {

// One of the answers to a request: a sequence, and how its tokens are drawn.
struct Choice {
  struct Job* job = nullptr;
  int index = 0;
  Sequence sequence;
  Sampling sampling;
  SamplerState sampler;
  std::optional<Constraint> constraint;     // where the request has a grammar, from the first draw on
  std::optional<ReasoningWatch> reasoning;  // where it has a limit for that, likewise
  bool is_scheduled = false;                // the scheduler knows the sequence
  bool needs_row = false;                   // what was found of its newest logits does not tell the token
  int64_t n_untold = 0;                     // tokens of which that was so
  bool is_done = false;
};

struct Job {
  uint64_t id = 0;
  Request request;
  std::shared_ptr<Channel<Event>> events;
  std::vector<Choice> choices;  // the first computes the prompt, from which the others are forked
  std::vector<TokenLogprobs> prompt_logprobs;  // those that are there, until the first event takes them
  std::chrono::steady_clock::time_point submitted = std::chrono::steady_clock::now();
  double queue_s = -1.0;  // until its first rows were planned; negative before
  bool is_forked = false;
  int n_open = 0;  // choices that are not done
};

// With its choices, none of which is scheduled yet.
std::unique_ptr<Job> make_job(Request request, const ModelShape& shape);

}  // namespace millrace
