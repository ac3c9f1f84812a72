#include "engine/request_faults.h"

#include <fmt/format.h>

#include "engine/sampler.h"
#include "grammar/grammar.h"

namespace millrace {
namespace {

using Fault = std::optional<RequestFault>;

template <class... Values>
Fault bad(fmt::format_string<Values...> format, Values&&... values) {
  return RequestFault{RefusalReason::bad_request, fmt::format(format, std::forward<Values>(values)...)};
}

template <class... Values>
Fault too_long(fmt::format_string<Values...> format, Values&&... values) {
  return RequestFault{RefusalReason::over_context, fmt::format(format, std::forward<Values>(values)...)};
}

Fault fault_of_answer(const Request& request, const ModelShape& shape, const Engine::Options& options) {
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  if (n_prompt >= options.n_ctx) {
    return too_long("the prompt has {} tokens, the context {}: no room for an answer", n_prompt,
                    options.n_ctx);
  }
  if (!request.token_types.empty()) return bad("the model knows no token types");
  if (request.max_tokens < -1) return bad("max_tokens is {}, expected -1 or more", request.max_tokens);
  if (request.n_logprobs < -1 || request.n_logprobs > shape.n_vocab)
    return bad("logprobs is {}, expected -1 to {}", request.n_logprobs, shape.n_vocab);
  if (request.n_prompt_logprobs < -1 || request.n_prompt_logprobs > shape.n_vocab)
    return bad("prompt_logprobs is {}, expected -1 to {}", request.n_prompt_logprobs, shape.n_vocab);
  if (request.grammar && request.grammar->tokens().n_vocab() != shape.n_vocab) {
    return bad("the grammar is for {} tokens, the model has {}", request.grammar->tokens().n_vocab(),
               shape.n_vocab);
  }
  if (request.grammar && request.ignore_end)
    return bad("ignore_end cannot be used with a grammar, which must end");
  if (request.n < 1 || request.n > options.max_sequences)
    return bad("n is {}, expected 1 to {}", request.n, options.max_sequences);
  if (const auto fault = find_fault(request.sampling, shape.n_vocab)) return bad("{}", *fault);
  return std::nullopt;
}

Fault fault_of_embedding(const Request& request, const ModelShape& shape, const Engine::Options& options) {
  const auto n_prompt = static_cast<int64_t>(request.prompt.size());
  if (n_prompt > options.n_ctx)
    return too_long("the text has {} tokens, the context {}", n_prompt, options.n_ctx);
  const bool is_whole = shape.needs_whole_sequences(options.pooling.value_or(Pooling::none));
  if (is_whole && n_prompt > options.max_rows) {
    return too_long(
        "the text has {} tokens, which this model must compute in one step, and a step computes {}", n_prompt,
        options.max_rows);
  }
  const bool wants_logprobs = request.n_logprobs != -1 || request.n_prompt_logprobs != -1;
  if (request.max_tokens != -1 || wants_logprobs || request.n != 1)
    return bad("the model gives embeddings: max_tokens, logprobs and n mean nothing to it");
  if (!request.token_types.empty() && request.token_types.size() != request.prompt.size())
    return bad("there are {} token types for {} tokens", request.token_types.size(), n_prompt);
  for (const int32_t type : request.token_types) {
    if (type < 0 || type >= shape.n_token_types)
      return bad("the token type {} is none of the {} that the model has", type, shape.n_token_types);
  }
  return std::nullopt;
}

}  // namespace

std::optional<RequestFault> find_fault(const Request& request, const ModelShape& shape,
                                       const Engine::Options& options) {
  if (request.prompt.empty()) return bad("the prompt is empty, expected at least one token");
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= shape.n_vocab)
      return bad("the prompt holds token {}, the vocabulary has {}", token, shape.n_vocab);
  }
  return shape.gives_embeddings() ? fault_of_embedding(request, shape, options)
                                  : fault_of_answer(request, shape, options);
}

}  // namespace millrace
