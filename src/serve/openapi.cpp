#include "serve/openapi.h"

#include <algorithm>

#include "base/version.h"
#include "serve/field_log.h"

namespace millrace {
namespace {

constexpr std::string_view kAbout =
    "A member of a body that is null counts as absent. Members marked x-millrace: refused are answered with "
    "status 400 unless they have the one value given; members that are not listed always are.";

// What reading the example asks for goes to `log`. Why the route does not serve it; empty where it does.
std::string read_example(const ApiRoute& route, const ServedModel& model, const Json& example,
                         FieldLog& log) {
  HttpRequest request{.method = std::string(route.method), .path = std::string(route.path)};
  request.body = example.dump();
  const FieldLog::Recording recording(log);
  try {
    route.parse({.http = request, .model = model});
  } catch (const std::exception& refused) {
    return refused.what();
  }
  return {};
}

Json request_body(const ApiRoute& route, const ServedModel& model, std::string& refusal) {
  FieldLog log;
  Json named;
  int n = 0;
  const Json examples = Json::parse(route.examples, route.path);
  for (Json example : examples.as_array()) {
    if (example.find("model") != nullptr) example["model"] = model.names.front();
    const std::string why = read_example(route, model, example, log);
    if (!why.empty()) refusal = why;
    named[std::to_string(++n)]["value"] = example;
  }
  Json out;
  out["required"] = true;
  Json& content = out["content"]["application/json"];
  content["schema"] = log.schema();
  content["examples"] = std::move(named);
  return out;
}

// "/v1/models/*" is /v1/models/{name}.
std::string template_of(std::string_view path) {
  if (!path.ends_with('*')) return std::string(path);
  return std::string(path.substr(0, path.size() - 1)) + "{name}";
}

Json described(const Dialect& dialect, const ApiRoute& route, const ServedModel& model) {
  Json out;
  out["tags"] = Json::Array{dialect.name};
  out["operationId"] = fmt::format("{} {}", lower_case(route.method), route.path);
  if (route.key == ApiRoute::Key::none) out["security"] = Json::Array();
  if (route.path.ends_with('*')) {
    Json name;
    name["name"] = "name";
    name["in"] = "path";
    name["required"] = true;
    name["schema"]["type"] = "string";
    out["parameters"] = Json::Array{std::move(name)};
  }
  std::string refusal;
  if (!route.examples.empty()) out["requestBody"] = request_body(route, model, refusal);
  if (!refusal.empty()) out["x-millrace-refused"] = refusal;
  out["responses"]["200"]["description"] = "The answer";
  out["responses"]["default"]["description"] =
      fmt::format("An error in the shape of {}, which names the member that is wrong", dialect.name);
  return out;
}

}  // namespace

Json openapi_document(const Incoming& incoming) {
  Json out;
  out["openapi"] = "3.1.0";
  out["info"]["title"] = "Millrace";
  out["info"]["version"] = version();
  out["info"]["description"] = kAbout;
  Json& key = out["components"]["securitySchemes"]["key"];
  key["type"] = "http";
  key["scheme"] = "bearer";
  Json needed;
  needed["key"] = Json::Array();
  out["security"] = Json::Array{Json::Object(), std::move(needed)};  // where the server has keys
  for (const Dialect& dialect : all_dialects()) {
    for (const ApiRoute& route : dialect.routes) {
      Json& operation = out["paths"][template_of(route.path)][lower_case(route.method)];
      if (operation.is_null()) operation = described(dialect, route, incoming.model);
    }
  }
  return out;
}

}  // namespace millrace
