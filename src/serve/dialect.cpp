#include "serve/dialect.h"

#include <algorithm>
#include <chrono>

#include "serve/keys.h"

namespace millrace {
namespace {

constexpr size_t kMaxDepth = 64;

}  // namespace

const Tokenizer& ServedModel::need_tokenizer() const {
  if (tokenizer == nullptr) throw ApiError(400, "the model has no tokenizer: send the prompt as token ids");
  return *tokenizer;
}

const ChatPrompt& ServedModel::need_chat() const {
  if (chat == nullptr) throw ApiError(400, "the model has no chat template: use /v1/completions");
  return *chat;
}

void append_event(std::string& out, const Json& data) { out += "data: " + data.dump() + "\n\n"; }

void append_event(std::string& out, std::string_view name, const Json& data) {
  out += "event: ";
  out += name;
  out += '\n';
  append_event(out, data);
}

int64_t unix_seconds() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

Json json_body(const HttpRequest& request) {
  try {
    return Json::parse(request.body, "the body", ErrorKind::usage, {.max_depth = kMaxDepth});
  } catch (const Error& error) {
    throw ApiError(400, error.what());
  }
}

HttpResponse json_response(const Json& body) { return {.status = 200, .body = body.dump()}; }

void need_model(const Incoming& incoming, const std::optional<std::string>& name) {
  const ServedModel& model = incoming.model;
  const auto is_one_of = [](const std::vector<std::string>& names, const std::string& wanted) {
    return std::ranges::find(names, wanted) != names.end();
  };
  // "dummy" is what the Hub's client sends where it knows an address alone.
  const std::string asked = name && *name != "dummy" ? *name : model.names.front();
  const bool is_allowed =
      incoming.key == nullptr || incoming.key->models.empty() || is_one_of(incoming.key->models, asked);
  if (is_allowed && is_one_of(model.names, asked)) return;
  throw ApiError(
      404, fmt::format("the model {} is not served here; served: {}", printable(asked), model.names.front()),
      "model", "model_not_found");
}

void need_generation(const ServedModel& model) {
  if (model.shape.gives_embeddings())
    throw ApiError(400, "the model gives embeddings and no tokens", "model");
}

void need_room(const ServedModel& model, const std::vector<int32_t>& prompt, const std::string& param) {
  if (prompt.empty())
    throw ApiError(400, fmt::format("{} is empty, expected at least one token", param), param);
  if (std::ssize(prompt) >= model.n_ctx()) {
    throw ApiError(400,
                   fmt::format("{} has {} tokens, the context {}: no room for an answer", param,
                               prompt.size(), model.n_ctx()),
                   param, "context_length_exceeded");
  }
  const auto wrong =
      std::ranges::find_if(prompt, [&](int32_t id) { return id < 0 || id >= model.shape.n_vocab; });
  if (wrong != prompt.end())
    refuse_field(param, "{} holds token {}, the vocabulary has {}", param, *wrong, model.shape.n_vocab);
}

}  // namespace millrace
