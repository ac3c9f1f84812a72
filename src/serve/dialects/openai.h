// What OpenAI's routes share.
#pragma once

#include "serve/dialect.h"
#include "serve/fields.h"

namespace millrace {

// The `usage` of chat and completions.
Json openai_usage(const Totals& totals);
// {"error": {...}}
Json openai_error(const ApiError& error);
// "stop", "length" or "tool_calls"
std::string_view openai_finish(const Ending& ending);

struct StreamOptions {
  bool includes_usage = false;
  bool is_usage_continuous = false;
};
// `stream_options`, legal only with `stream`.
StreamOptions read_stream_options(Fields& fields, bool is_streamed);

// What the replies of chat and of completions have in common.
class OpenAiEncoder : public Encoder {
 public:
  void end(const Totals& totals, std::string& out) final;
  void fault(const ApiError& error, std::string& out) final;
  std::string whole(std::span<const Piece> choices, const Totals& totals) final;

 protected:
  // Made when the request is read. `chunk_object` and `whole_object` must outlive it.
  OpenAiEncoder(const ServedModel& model, std::string id, StreamOptions options,
                std::string_view chunk_object, std::string_view whole_object);

  // One chunk with that choice.
  void send(Json choice, const Totals& totals, std::string& out) const;
  // A choice of a reply that is not streamed.
  virtual Json whole_choice(const Piece& piece) = 0;

  const ServedModel& model_;

 private:
  Json frame(std::string_view object) const;

  const std::string id_;
  const int64_t created_;
  const StreamOptions options_;
  const std::string_view chunk_object_, whole_object_;
};

Parsed parse_chat_completion(const Incoming& incoming);
Parsed parse_completion(const Incoming& incoming);
Parsed parse_response(const Incoming& incoming);
Parsed parse_embeddings(const Incoming& incoming);
Parsed parse_rerank(const Incoming& incoming);

}  // namespace millrace
