// What a dialect is: routes that read requests, and encoders that write what the engine answers. A dialect
// is a file in dialects/ and a line in dialects/dialects.cpp; it knows no sockets, threads or engine.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "serve/api_error.h"
#include "serve/net/http.h"
#include "serve/served_model.h"
#include "text/output/output_parser.h"

namespace millrace {

class Metrics;
struct ApiKey;

struct Incoming {
  const HttpRequest& http;
  const ServedModel& model;
  const ApiKey* key = nullptr;       // nullptr where none is asked for
  const Metrics* metrics = nullptr;  // on the I/O thread alone
  bool is_draining = false;
};

struct GeneratedToken {
  int32_t id = -1;
  std::optional<TokenLogprobs> logprobs;
};

// How a choice ended.
struct Ending {
  FinishReason reason = FinishReason::stop;
  std::string stop;  // the stop string that ended it; empty where none did
  bool calls_tools = false;
};

// The next part of one choice, or where nothing is streamed all of it.
struct Piece {
  size_t choice = 0;
  std::string text;                 // whole characters; of a chat empty, and instead:
  std::vector<OutputEvent> output;  // answer, reasoning and calls in their order
  std::vector<GeneratedToken> tokens;
  // Where they were asked for, with the first part: of the tokens of the prompt but the first.
  std::span<const TokenLogprobs> prompt_logprobs;
  std::optional<Ending> ending;  // with the last part
  std::vector<float> embedding;  // of a model that gives embeddings or scores
};

// Of all choices of a request; a prompt counts once however many choices it has.
struct Totals {
  int64_t n_prompt = 0, n_cached = 0, n_generated = 0;
  int64_t n_reasoning = 0;     // of those that were generated
  double queue_s = 0.0;        // from the arrival of the request until it was first computed
  double first_token_s = 0.0;  // from the arrival to the first token
  double total_s = 0.0;        // from the arrival until now
};

// Writes one reply. All on the I/O thread.
class Encoder {
 public:
  virtual ~Encoder() = default;
  // Streamed: append to `out` what the client is sent for a piece, after the last one, and where the answer
  // fails midway.
  virtual void piece(const Piece& piece, const Totals& totals, std::string& out) = 0;
  virtual void end(const Totals& totals, std::string& out) = 0;
  virtual void fault(const ApiError& error, std::string& out) = 0;
  // Bytes that say nothing and keep a stream alive.
  virtual std::string keep_alive() const { return ": \n\n"; }
  // Not streamed: the body of the reply, from the whole choices in order.
  virtual std::string whole(std::span<const Piece> choices, const Totals& totals) = 0;
};

// What a request asks of the engine.
struct Ask {
  // How the text of a chat is taken apart.
  struct Output {
    const ToolSyntax* syntax = nullptr;  // of the model
    OutputParser::Options parser;
    std::shared_ptr<const Json> tools;  // that the parser looks at
  };
  struct Choice {
    Request request;
    std::optional<Output> output;    // of a chat
    std::vector<std::string> stops;  // of the answer: reasoning and calls are not cut
    size_t prompt = 0;               // which of the prompts of the HTTP request it continues
    std::string prefix;              // text that comes before what is generated: an echoed prompt
    bool keeps_stop = false;         // the stop string is part of the text
    bool shows_special = false;      // control tokens are part of the text
  };
  std::vector<Choice> choices;
  // Of the choices of each prompt these many are given, those whose tokens are likeliest on average, in that
  // order; their requests ask for log-probabilities. 0: all, in theirs. Never streamed.
  size_t n_best = 0;
  bool is_streamed = false;
  std::string stream_type = "text/event-stream";
  std::unique_ptr<Encoder> encoder;
};

using Parsed = std::variant<HttpResponse, Ask>;

struct ApiRoute {
  std::string_view method;
  std::string_view path;  // "/v1/models/*": whatever follows
  // Throws ApiError, and Error(runtime) of a chat template.
  Parsed (*parse)(const Incoming& incoming);
  enum class Runs { here, on_worker } runs = Runs::on_worker;  // here: on the I/O thread, for what is quick
  // none: answered without an API key; metrics: too, where the server was told so.
  enum class Key { needed, none, metrics } key = Key::needed;
  // Of a route with a body: a JSON list of bodies that between them have every object that may stand inside
  // of one. The description of the API is made by reading them (serve/openapi.h).
  std::string_view examples;
};

constexpr ApiRoute post_route(std::string_view path, Parsed (*parse)(const Incoming&),
                              std::string_view examples) {
  return {.method = "POST", .path = path, .parse = parse, .examples = examples};
}

struct Dialect {
  std::string_view name;
  std::span<const ApiRoute> routes;
  std::string (*error_body)(const ApiError& error, const std::string& request_id);
};

// All dialects; of two routes that fit, the first counts.
std::span<const Dialect> all_dialects();

// `data: JSON`, as an event of text/event-stream.
void append_event(std::string& out, const Json& data);
// With an `event: NAME` line before it.
void append_event(std::string& out, std::string_view name, const Json& data);

int64_t unix_seconds();

// The body as JSON. Throws ApiError where it is none, or nests too deeply.
Json json_body(const HttpRequest& request);
// Throws ApiError(404) for a name that is none of the model's, or that the key may not ask. Without a name
// the model is meant.
void need_model(const Incoming& incoming, const std::optional<std::string>& name);
// Throws ApiError where the model gives embeddings.
void need_generation(const ServedModel& model);
HttpResponse json_response(const Json& body);
// Throws ApiError where the prompt leaves no room for an answer, or holds ids that are no tokens.
void need_room(const ServedModel& model, const std::vector<int32_t>& prompt, const std::string& param);

}  // namespace millrace
