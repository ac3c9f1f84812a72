// OpenAI's routes, and those that every server has.
#include "serve/dialects/openai.h"
#include "serve/dialects/table.h"
#include "serve/metrics.h"

namespace millrace {
namespace {

using enum ApiRoute::Runs;

Parsed health(const Incoming& incoming) {
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

constexpr ApiRoute kOpenAi[] = {
    {"GET", "/health", health, here, ApiRoute::Key::none},
    {"GET", "/v1/health", health, here, ApiRoute::Key::none},
    {"GET", "/readyz", health, here, ApiRoute::Key::none},
    {"GET", "/livez", alive, here, ApiRoute::Key::none},
    {"GET", "/v1/models", list_models, here},
    {"GET", "/v1/models/*", show_model, here},
    {"POST", "/v1/chat/completions", parse_chat_completion},
    {"POST", "/v1/completions", parse_completion},
    {"POST", "/v1/responses", parse_response},
    {"POST", "/v1/embeddings", parse_embeddings},
    {"POST", "/v1/rerank", parse_rerank},
    {"POST", "/rerank", parse_rerank},
    {"POST", "/v2/rerank", parse_rerank},
    {"GET", "/metrics", metrics, here, ApiRoute::Key::metrics},
};

std::string openai_error_body(const ApiError& error, const std::string&) {
  return openai_error(error).dump();
}

}  // namespace

Dialect openai_dialect() { return {"OpenAI", kOpenAi, openai_error_body}; }

}  // namespace millrace
