#include "engine/job.h"

namespace millrace {

std::unique_ptr<Job> make_job(Request request, const ModelShape& shape) {
  auto job = std::make_unique<Job>();
  job->events = std::make_shared<Channel<Event>>();
  job->n_open = request.n;
  job->choices.resize(static_cast<size_t>(request.n));
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  for (int index = 0; index < request.n; ++index) {
    Choice& choice = job->choices[static_cast<size_t>(index)];
    choice.job = job.get();
    choice.index = index;
    choice.sampling = request.sampling;
    choice.sampling.seed = seed_of_choice(request.sampling.seed, index);
    choice.sequence.priority = request.priority;
    choice.sequence.key = request.key;
    choice.sequence.n_prompt = n_prompt;
    choice.sequence.rope_table = shape.long_rope_from > 0 && n_prompt > shape.long_rope_from ? 1 : 0;
  }
  Sequence& first = job->choices.front().sequence;
  first.tokens = std::move(request.prompt);
  first.token_types = std::move(request.token_types);
  first.is_scored = request.n_prompt_logprobs >= 0;
  job->request = std::move(request);
  return job;
}

}  // namespace millrace
