#include "serve/dialects/openai.h"

namespace millrace {
namespace {

std::string_view error_type(int status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 404) return "not_found_error";
  if (status == 429) return "rate_limit_error";
  if (status == 503) return "service_unavailable";
  return status < 500 ? "invalid_request_error" : "server_error";
}

Json json_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

Json openai_usage(const Totals& totals) {
  Json out;
  out["prompt_tokens"] = totals.n_prompt;
  out["completion_tokens"] = totals.n_generated;
  out["total_tokens"] = totals.n_prompt + totals.n_generated;
  out["prompt_tokens_details"]["cached_tokens"] = totals.n_cached;
  out["completion_tokens_details"]["reasoning_tokens"] = totals.n_reasoning;
  return out;
}

Json openai_error(const ApiError& error) {
  Json out;
  Json& inner = out["error"];
  inner["message"] = error.what();
  inner["type"] = error_type(error.status);
  inner["param"] = json_or_null(error.param);
  inner["code"] = json_or_null(error.code);
  return out;
}

std::string_view openai_finish(const Ending& ending) {
  if (ending.reason == FinishReason::length) return "length";
  return ending.calls_tools ? "tool_calls" : "stop";
}

StreamOptions read_stream_options(Fields& fields, bool is_streamed) {
  const Json* given = fields.object("stream_options");
  if (given == nullptr) return {};
  if (!is_streamed) refuse_field("stream_options", "stream_options is legal only with \"stream\": true");
  Fields options(*given, "stream_options");
  StreamOptions out;
  out.includes_usage = options.boolean("include_usage").value_or(false);
  out.is_usage_continuous = options.boolean("continuous_usage_stats").value_or(false);
  options.refuse_unless("include_obfuscation", false, "streams are not padded");
  options.finish();
  return out;
}

OpenAiEncoder::OpenAiEncoder(const ServedModel& model, std::string id, StreamOptions options,
                             std::string_view chunk_object, std::string_view whole_object)
    : model_(model),
      id_(std::move(id)),
      created_(unix_seconds()),
      options_(options),
      chunk_object_(chunk_object),
      whole_object_(whole_object) {}

Json OpenAiEncoder::frame(std::string_view object) const {
  Json out;
  out["id"] = id_;
  out["object"] = object;
  out["created"] = created_;
  out["model"] = model_.names.front();
  return out;
}

void OpenAiEncoder::send(Json choice, const Totals& totals, std::string& out) const {
  Json chunk = frame(chunk_object_);
  chunk["choices"] = Json::Array{std::move(choice)};
  if (options_.is_usage_continuous) {
    chunk["usage"] = openai_usage(totals);
  } else if (options_.includes_usage) {
    chunk["usage"] = Json();
  }
  append_event(out, chunk);
}

void OpenAiEncoder::end(const Totals& totals, std::string& out) {
  if (options_.includes_usage) {
    Json chunk = frame(chunk_object_);
    chunk["choices"] = Json::Array();
    chunk["usage"] = openai_usage(totals);
    append_event(out, chunk);
  }
  out += "data: [DONE]\n\n";
}

void OpenAiEncoder::fault(const ApiError& error, std::string& out) { append_event(out, openai_error(error)); }

std::string OpenAiEncoder::whole(std::span<const Piece> choices, const Totals& totals) {
  Json out = frame(whole_object_);
  Json::Array list;
  for (const Piece& piece : choices) list.push_back(whole_choice(piece));
  out["choices"] = std::move(list);
  out["usage"] = openai_usage(totals);
  return out.dump();
}

}  // namespace millrace
