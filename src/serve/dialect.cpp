#include "serve/dialect.h"

#include <algorithm>
#include <chrono>

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

void need_model(const ServedModel& model, const std::optional<std::string>& name) {
  if (!name || std::ranges::find(model.names, *name) != model.names.end()) return;
  throw ApiError(
      404, fmt::format("the model {} is not served here; served: {}", printable(*name), model.names.front()),
      "model", "model_not_found");
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
