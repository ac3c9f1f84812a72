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
  return ending.reason == FinishReason::length ? "length" : "stop";
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

}  // namespace millrace
