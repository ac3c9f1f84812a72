// The table of dialects, and the routes that belong to none.
#include "serve/dialects/openai.h"

namespace millrace {
namespace {

using enum ApiRoute::Runs;

HttpResponse json_response(const Json& body) { return {.status = 200, .body = body.dump()}; }

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
  need_model(incoming.model, name);
  return json_response(model_card(incoming.model, name));
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
};

std::string openai_error_body(const ApiError& error, const std::string&) {
  return openai_error(error).dump();
}

}  // namespace

std::span<const Dialect> all_dialects() {
  static constexpr Dialect kDialects[] = {
      {"OpenAI", kOpenAi, openai_error_body},
  };
  return kDialects;
}

}  // namespace millrace
