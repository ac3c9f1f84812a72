// OpenAI's routes, and those that every server has.
#include "serve/dialects/openai.h"
#include "serve/dialects/table.h"
#include "serve/metrics.h"
#include "serve/openapi.h"

namespace millrace {
namespace {

using enum ApiRoute::Runs;

Parsed health(const Incoming& incoming) {
  if (const std::string failure = incoming.model.engine.failure(); !failure.empty())
    throw ApiError(503, failure);
  if (incoming.is_draining) throw ApiError(503, "the server is ending");
  Json body;
  body["status"] = "ok";
  return json_response(body);
}

// The process lives, whatever it is busy with.
Parsed alive(const Incoming&) { return json_response(Json::Object()); }

Json model_card(const ServedModel& model, const std::string& name) {
  Json out;
  out["id"] = name;
  out["object"] = "model";
  out["created"] = model.created_unix_s;
  out["owned_by"] = "millrace";
  out["max_model_len"] = model.n_ctx();
  return out;
}

Parsed list_models(const Incoming& incoming) {
  Json::Array cards;
  for (const std::string& name : incoming.model.names) cards.push_back(model_card(incoming.model, name));
  Json body;
  body["object"] = "list";
  body["data"] = std::move(cards);
  return json_response(body);
}

// Names may hold slashes.
Parsed show_model(const Incoming& incoming) {
  const std::string name = incoming.http.path.substr(std::string_view("/v1/models/").size());
  need_model(incoming, name);
  return json_response(model_card(incoming.model, name));
}

Parsed metrics(const Incoming& incoming) {
  return HttpResponse{.status = 200,
                      .content_type = "text/plain; version=0.0.4; charset=utf-8",
                      .body = incoming.metrics->text(incoming.model)};
}

Parsed openapi(const Incoming& incoming) { return json_response(openapi_document(incoming)); }

constexpr std::string_view kChats = R"([
  {"messages": [
    {"role": "system", "content": "Be terse."},
    {"role": "user", "content": [{"type": "text", "text": "How high is the Zugspitze?"}]},
    {"role": "assistant", "content": "I look.", "tool_calls":
      [{"id": "1", "type": "function", "function": {"name": "height", "arguments": "{\"of\": \"Zugspitze\"}"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "2962 m"}],
   "stream": true, "stream_options": {"include_usage": true},
   "structured_outputs": {"regex": "[0-9]+ m"}},
  {"messages": [{"role": "user", "content": "How high is the Zugspitze?"}], "tools": [
    {"type": "function", "function": {"name": "height", "description": "The height of a mountain.", "parameters":
      {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]}}}],
   "tool_choice": {"type": "function", "function": {"name": "height"}}, "parallel_tool_calls": false},
  {"messages": [{"role": "user", "content": "How high is the Zugspitze?"}], "tools": [
    {"type": "function", "function": {"name": "height"}}],
   "tool_choice": {"type": "allowed_tools", "allowed_tools":
     {"mode": "auto", "tools": [{"type": "function", "function": {"name": "height"}}]}}},
  {"messages": [{"role": "user", "content": "Hello"}],
   "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}},
  {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100, "temperature": 0.7, "seed": 1}])";
constexpr std::string_view kCompletions = R"([
  {"prompt": "Once upon a time", "max_tokens": 50, "stream": true, "stream_options": {"include_usage": true},
   "structured_outputs": {"regex": "[a-z ]+"}},
  {"prompt": ["Once", "Twice"], "response_format": {"type": "json_schema",
   "json_schema": {"name": "n", "schema": {"type": "integer"}}}}])";
constexpr std::string_view kResponses = R"([
  {"input": "Hello", "instructions": "Be terse.", "text": {}, "stream": true, "stream_options": {}},
  {"input": [{"role": "user", "content": [{"type": "input_text", "text": "How high is the Zugspitze?"}]},
    {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "I look."}]},
    {"type": "function_call", "call_id": "1", "name": "height", "arguments": "{\"of\": \"Zugspitze\"}"},
    {"type": "function_call_output", "call_id": "1", "output": "2962 m"}],
   "tools": [{"type": "function", "name": "height", "description": "The height of a mountain.", "parameters":
     {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]}, "strict": true}],
   "tool_choice": {"type": "function", "name": "height"}, "reasoning": {"summary": "auto"}},
  {"input": "Hello", "tools": [{"type": "function", "name": "height"}],
   "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "height"}]}},
  {"input": "Hello", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "integer"}}}}])";
constexpr std::string_view kEmbeddings = R"([{"input": ["a text", "another"], "encoding_format": "float"}])";
constexpr std::string_view kReranks = R"([{"query": "Who?", "documents": ["he", "she"], "top_n": 1}])";

constexpr ApiRoute kOpenAi[] = {
    {"GET", "/health", health, here, ApiRoute::Key::none},
    {"GET", "/v1/health", health, here, ApiRoute::Key::none},
    {"GET", "/readyz", health, here, ApiRoute::Key::none},
    {"GET", "/livez", alive, here, ApiRoute::Key::none},
    {"GET", "/v1/models", list_models, here},
    {"GET", "/v1/models/*", show_model, here},
    post_route("/v1/chat/completions", parse_chat_completion, kChats),
    post_route("/v1/completions", parse_completion, kCompletions),
    post_route("/v1/responses", parse_response, kResponses),
    post_route("/v1/embeddings", parse_embeddings, kEmbeddings),
    post_route("/v1/rerank", parse_rerank, kReranks),
    post_route("/rerank", parse_rerank, kReranks),
    post_route("/v2/rerank", parse_rerank, kReranks),
    {"GET", "/metrics", metrics, here, ApiRoute::Key::metrics},
    {"GET", "/openapi.json", openapi},
};

std::string openai_error_body(const ApiError& error, const std::string&) {
  return openai_error(error).dump();
}

}  // namespace

Dialect openai_dialect() { return {"OpenAI", kOpenAi, openai_error_body}; }

}  // namespace millrace
