// Ollama's /api routes, for the one model that is served: nothing is pulled, created or deleted.
#include <fmt/chrono.h>

#include <chrono>

#include "base/version.h"
#include "serve/dialects/embeddings.h"
#include "serve/dialects/table.h"
#include "serve/dialects/tool_fields.h"
#include "serve/sampling_fields.h"

namespace millrace {
namespace {

constexpr size_t kMaxMessages = 4096;

// RFC 3339, to the microsecond.
std::string now_text() {
  const auto now = std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
  const auto micros = now.time_since_epoch().count() % 1'000'000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z",
                     fmt::gmtime(std::chrono::time_point_cast<std::chrono::seconds>(now)), micros);
}

int64_t nanoseconds(double seconds) { return static_cast<int64_t>(seconds * 1e9); }

// "tiny:latest" is tiny.
std::string plain_name(std::string name) {
  constexpr std::string_view kTag = ":latest";
  if (name.ends_with(kTag)) name.resize(name.size() - kTag.size());
  return name;
}

void need_named(const Incoming& incoming, Fields& fields) {
  std::optional<std::string> name = fields.text("model");
  const std::optional<std::string> old = fields.text("name");
  if (!name) name = old;
  if (!name) fields.refuse_missing("model");
  need_model(incoming, plain_name(*name));
}

enum class Form { generate, chat };

class OllamaEncoder final : public Encoder {
 public:
  OllamaEncoder(const ServedModel& model, Form form) : model_(model), form_(form) {}

  void piece(const Piece& piece, const Totals&, std::string& out) override {
    const Part part = next_part(piece);
    if (!part.text.empty() || !part.thinking.empty() || !part.calls.empty()) {
      Json made = line(part, piece);
      made["done"] = false;
      out += made.dump() + "\n";
    }
    if (piece.ending) ending_ = *piece.ending;
  }

  void end(const Totals& totals, std::string& out) override {
    out += last({}, Piece(), ending_, totals).dump() + "\n";
  }

  void fault(const ApiError& error, std::string& out) override {
    Json made;
    made["error"] = error.what();
    out += made.dump() + "\n";
  }

  std::string keep_alive() const override { return {}; }

  std::string whole(std::span<const Piece> choices, const Totals& totals) override {
    const Piece& piece = choices.front();
    return last(next_part(piece), piece, *piece.ending, totals).dump();
  }

 private:
  struct Part {
    std::string text, thinking;
    Json::Array calls;  // whole ones: Ollama's clients join nothing
  };

  Part next_part(const Piece& piece) {
    using Kind = OutputEvent::Kind;
    Part part;
    part.text = piece.text;
    for (const OutputEvent& event : piece.output) {
      if (event.kind == Kind::content) part.text += event.text;
      if (event.kind == Kind::reasoning) part.thinking += event.text;
      if (event.kind == Kind::call_begin) name_ = event.text;
      if (event.kind == Kind::arguments) arguments_ += event.text;
      if (event.kind == Kind::call_end) add_call(part.calls);
    }
    return part;
  }

  // Of a call that num_predict cut no object can be made; done_reason says so.
  void add_call(Json::Array& calls) {
    Json call;
    call["id"] = fresh_call_id("call_");
    call["function"]["index"] = n_calls_;
    call["function"]["name"] = name_;
    try {
      call["function"]["arguments"] = Json::parse(std::exchange(arguments_, {}), "the arguments");
    } catch (const Error&) {
      return;
    }
    ++n_calls_;
    calls.push_back(std::move(call));
  }

  Json line(const Part& part, const Piece& piece) const {
    Json out;
    out["model"] = model_.names.front();
    out["created_at"] = now_text();
    if (form_ == Form::chat) {
      out["message"] = message("assistant", part.text);
      if (!part.thinking.empty()) out["message"]["thinking"] = part.thinking;
      if (!part.calls.empty()) out["message"]["tool_calls"] = part.calls;
    } else {
      out["response"] = part.text;
      if (!part.thinking.empty()) out["thinking"] = part.thinking;
    }
    if (!piece.tokens.empty() && piece.tokens.front().logprobs) out["logprobs"] = logprobs(piece);
    return out;
  }

  Json last(const Part& part, const Piece& piece, const Ending& ending, const Totals& totals) const {
    Json out = line(part, piece);
    out["done"] = true;
    out["done_reason"] = ending.reason == FinishReason::length ? "length" : "stop";
    out["total_duration"] = nanoseconds(totals.total_s);
    out["load_duration"] = 0;
    out["prompt_eval_count"] = totals.n_prompt;
    out["prompt_eval_duration"] = nanoseconds(totals.first_token_s);
    out["eval_count"] = totals.n_generated;
    out["eval_duration"] = nanoseconds(totals.total_s - totals.first_token_s);
    return out;
  }

  Json logprobs(const Piece& piece) const {
    Json::Array out;
    for (const GeneratedToken& generated : piece.tokens) {
      Json entry = token_logprob(model_, generated.id, generated.logprobs->chosen);
      if (!generated.logprobs->best.empty()) {
        Json::Array top;
        for (const auto& [id, logprob] : generated.logprobs->best)
          top.push_back(token_logprob(model_, id, logprob));
        entry["top_logprobs"] = std::move(top);
      }
      out.push_back(std::move(entry));
    }
    return out;
  }

  const ServedModel& model_;
  const Form form_;
  Ending ending_;
  std::string name_, arguments_;  // of the call that has begun
  int64_t n_calls_ = 0;
};

// `options`: sampling under the names of llama.cpp. What only shapes the process of Ollama is refused where
// it asks for something else than there is.
void read_options(Fields& fields, const ServedModel& model, Ask::Choice& choice) {
  const Json* given = fields.object("options");
  static const Json kNone = Json::Object();
  Fields options(given == nullptr ? kNone : *given, "options");
  choice.request.sampling = read_sampling(options, model);
  read_ending(options, model, choice);
  const int64_t n = options.integer("num_predict", -2, INT64_MAX).value_or(-1);
  choice.request.max_tokens = std::max<int64_t>(-1, n);
  if (const auto n_ctx = options.integer("num_ctx", 1, INT64_MAX); n_ctx.value_or(0) > model.n_ctx())
    refuse_field("options.num_ctx", "options.num_ctx is {}, the server's context {}", *n_ctx, model.n_ctx());
  options.refuse_unless("num_keep", 0, "a context is never shifted");
  options.allow(
      {"num_batch", "num_gpu", "main_gpu", "use_mmap", "use_mlock", "num_thread", "numa", "low_vram"});
  options.finish();
}

void read_common(const Incoming& incoming, Fields& fields, Ask& ask, Ask::Choice& choice) {
  need_generation(incoming.model);
  need_named(incoming, fields);
  ask.is_streamed = fields.boolean("stream").value_or(true);
  ask.stream_type = "application/x-ndjson";
  read_options(fields, incoming.model, choice);
  const bool wants_logprobs = fields.boolean("logprobs").value_or(false);
  const int64_t top = fields.integer("top_logprobs", 0, 20).value_or(0);
  if (wants_logprobs) choice.request.n_logprobs = static_cast<int>(top);
  fields.refuse_unless("truncate", false, "no prompt is cut: send false");
  fields.refuse_unless("shift", false, "a context is never shifted: send false");
  fields.allow({"keep_alive"});  // the model stays while the server does
}

void read_think(Fields& fields, const ServedModel& model, ChatAsk& ask) {
  const Json* given = fields.any("think");
  if (given == nullptr) return;
  model.need_chat();
  if (given->is_bool()) return set_reasoning(model, given->as_bool(), "think", ask);
  const auto effort = fields.choice("think", {"low", "medium", "high", "max"});
  set_reasoning_effort(model, *effort, "think", ask);
}

// "json", or a schema.
std::optional<AskedGrammar> read_format(Fields& fields) {
  const Json* given = fields.any("format");
  if (given == nullptr || *given == Json("")) return std::nullopt;
  if (*given == Json("json"))
    return AskedGrammar{"format", {.kind = GrammarSource::Kind::json_object, .text = {}, .choices = {}}};
  const Json* schema = fields.object("format");
  return schema_grammar("format", *schema);
}

// An empty prompt asks for the model to be loaded, which it is.
Parsed loaded(const ServedModel& model, Form form) {
  Json out;
  out["model"] = model.names.front();
  out["created_at"] = now_text();
  if (form == Form::chat) {
    out["message"] = message("assistant", "");
  } else {
    out["response"] = "";
  }
  out["done"] = true;
  out["done_reason"] = "load";
  return json_response(out);
}

Parsed ask_of(const Incoming& incoming, Ask ask, const Ask::Choice& choice, std::vector<int32_t> prompt,
              Form form) {
  ask.choices = choices_of(choice, {std::move(prompt)}, 1);
  ask.encoder = std::make_unique<OllamaEncoder>(incoming.model, form);
  return ask;
}

Parsed parse_generate(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  const ServedModel& model = incoming.model;
  Fields fields(body);
  Ask ask;
  Ask::Choice choice;
  read_common(incoming, fields, ask, choice);
  const std::string text = fields.text("prompt").value_or("");
  const std::optional<std::string> system = fields.text("system");
  const bool is_raw = fields.boolean("raw").value_or(false);
  ChatAsk chat;
  read_think(fields, model, chat);
  const std::optional<AskedGrammar> grammar = read_format(fields);
  fields.refuse_unless("suffix", "", "this model is asked to continue, not to fill in");
  fields.refuse_unless("template", "", "requests do not bring templates");
  fields.refuse_unless("images", Json::Array(), "this model reads text alone");
  fields.refuse_unless("context", Json::Array(), "use /api/chat for a conversation");
  fields.finish();
  if (is_raw && system) refuse_field("system", "system cannot be used with raw");
  if (text.empty()) return loaded(model, Form::generate);
  std::vector<int32_t> prompt;
  if (is_raw || model.chat == nullptr) {
    prompt = model.need_tokenizer().encode(text, {.add_special = true, .parse_special = true});
    need_room(model, prompt, "prompt");
    if (grammar) choice.request.grammar = compiled(*grammar, model.grammars);
  } else {
    if (system) chat.messages.push_back(message("system", *system));
    chat.messages.push_back(message("user", text));
    chat.content = grammar;
    prompt = fill_chat(model, chat, "prompt", choice);
  }
  return ask_of(incoming, std::move(ask), choice, std::move(prompt), Form::generate);
}

Json read_ollama_message(const Json& given, const std::string& path) {
  Fields fields(given, path);
  Json out;
  out["role"] = fields.need(fields.choice("role", {"system", "user", "assistant", "tool"}), "role");
  out["content"] = fields.text("content").value_or("");
  fields.refuse_unless("images", Json::Array(), "this model reads text alone");
  if (const auto thinking = fields.text("thinking")) out["reasoning_content"] = *thinking;
  if (const auto name = fields.text("tool_name")) out["name"] = *name;
  if (const auto id = fields.text("tool_call_id")) out["tool_call_id"] = *id;
  if (const Json* calls = fields.array("tool_calls", 128)) {
    Json::Array made;
    for (size_t i = 0; i < calls->as_array().size(); ++i) {
      Fields call(calls->as_array()[i], fmt::format("{}[{}]", fields.full_name("tool_calls"), i));
      const Json* function = &call.need(call.object("function"), "function");
      Fields inner(*function, call.full_name("function"));
      inner.allow({"index"});
      Json one;
      if (const auto id = call.text("id")) one["id"] = *id;
      one["type"] = "function";
      one["function"]["name"] = inner.need(inner.text("name"), "name");
      const Json* arguments = inner.object("arguments");
      one["function"]["arguments"] = arguments == nullptr ? Json(Json::Object()) : *arguments;
      inner.finish();
      call.choice("type", {"function"});
      call.finish();
      made.push_back(std::move(one));
    }
    if (!made.empty()) out["tool_calls"] = std::move(made);
  }
  fields.finish();
  return out;
}

Parsed parse_chat(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  const ServedModel& model = incoming.model;
  Fields fields(body);
  Ask ask;
  Ask::Choice choice;
  read_common(incoming, fields, ask, choice);
  model.need_chat();
  ChatAsk chat;
  read_think(fields, model, chat);
  chat.tools = read_tools(fields, "tools");
  chat.content = read_format(fields);
  const Json* given = fields.array("messages", kMaxMessages);
  fields.finish();
  if (given == nullptr || given->as_array().empty()) return loaded(model, Form::chat);
  for (size_t i = 0; i < given->as_array().size(); ++i)
    chat.messages.push_back(read_ollama_message(given->as_array()[i], fmt::format("messages[{}]", i)));
  chat.is_begun = chat.messages.back().at("role").as_string() == "assistant";
  std::vector<int32_t> prompt = fill_chat(model, chat, "messages", choice);
  return ask_of(incoming, std::move(ask), choice, std::move(prompt), Form::chat);
}

class EmbedEncoder final : public EmbeddingEncoder {
 public:
  EmbedEncoder(const ServedModel& model, bool is_old) : model_(model), is_old_(is_old) {}
  std::string whole(std::span<const Piece> choices, const Totals& totals) override {
    Json out;
    if (is_old_) {
      out["embedding"] = float_list(choices.front().embedding);
      return out.dump();
    }
    Json::Array all;
    for (const Piece& piece : choices) all.push_back(float_list(piece.embedding));
    out["model"] = model_.names.front();
    out["embeddings"] = std::move(all);
    out["total_duration"] = nanoseconds(totals.total_s);
    out["load_duration"] = 0;
    out["prompt_eval_count"] = totals.n_prompt;
    return out.dump();
  }

 private:
  const ServedModel& model_;
  const bool is_old_;
};

Parsed embed(const Incoming& incoming, bool is_old) {
  const Json body = json_body(incoming.http);
  Fields fields(body);
  need_named(incoming, fields);
  const char* name = is_old ? "prompt" : "input";
  std::vector<std::vector<int32_t>> texts = read_texts_to_embed(fields, incoming.model, name);
  // Where a text is too long it is refused, never cut.
  fields.refuse_unless("truncate", false, "no text is cut: send false");
  fields.refuse("dimensions", "embeddings are as wide as the model makes them");
  fields.refuse_unless("options", Json::Object(), "an embedding has none");
  fields.allow({"keep_alive"});
  fields.finish();
  Ask ask = ask_to_embed(std::move(texts));
  ask.encoder = std::make_unique<EmbedEncoder>(incoming.model, is_old);
  return ask;
}

Parsed parse_embed(const Incoming& incoming) { return embed(incoming, false); }
Parsed parse_old_embed(const Incoming& incoming) { return embed(incoming, true); }

Json details(const ServedModel& model) {
  Json out;
  out["parent_model"] = "";
  out["format"] = model.container;
  out["family"] = model.shape.family;
  out["families"] = Json::Array{model.shape.family};
  out["context_length"] = model.n_ctx();
  return out;
}

Json card(const ServedModel& model) {
  Json out;
  out["name"] = model.names.front();
  out["model"] = model.names.front();
  out["modified_at"] =
      fmt::format("{:%Y-%m-%dT%H:%M:%S}Z", fmt::gmtime(static_cast<std::time_t>(model.created_unix_s)));
  out["size"] = model.n_bytes;
  out["digest"] = "";
  out["details"] = details(model);
  return out;
}

Json capabilities(const ServedModel& model) {
  if (model.shape.gives_embeddings()) return Json::Array{"embedding"};
  Json::Array out{"completion"};
  if (model.chat_tools != nullptr) out.emplace_back("tools");
  if (model.chat_tools != nullptr && model.chat_tools->has_reasoning()) out.emplace_back("thinking");
  return out;
}

Parsed tags(const Incoming& incoming) {
  Json out;
  out["models"] = Json::Array{card(incoming.model)};
  return json_response(out);
}

Parsed running(const Incoming& incoming) {
  Json one = card(incoming.model);
  one["expires_at"] = "9999-12-31T23:59:59Z";
  one["size_vram"] = 0;
  one["context_length"] = incoming.model.n_ctx();
  Json out;
  out["models"] = Json::Array{std::move(one)};
  return json_response(out);
}

Parsed show(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  Fields fields(body);
  need_named(incoming, fields);
  fields.allow({"verbose"});
  fields.finish();
  Json out;
  out["modelfile"] = "";
  out["parameters"] = "";
  out["template"] = incoming.model.template_source;
  out["details"] = details(incoming.model);
  out["model_info"]["general.architecture"] = incoming.model.shape.family;
  out["capabilities"] = capabilities(incoming.model);
  return json_response(out);
}

// Ollama's own number would promise what is not here; clients ask for one of this form.
Parsed show_version(const Incoming&) {
  Json out;
  out["version"] = version();
  return json_response(out);
}

Parsed refuse_management(const Incoming& incoming) {
  throw ApiError(501, fmt::format("{} is not served: this server keeps the one model it was started with",
                                  incoming.http.path));
}

std::string error_body(const ApiError& error, const std::string&) {
  Json out;
  out["error"] = error.what();
  return out.dump();
}

constexpr std::string_view kGenerates =
    R"([{"model": "", "prompt": "Hello", "options": {"temperature": 0.7}}])";
constexpr std::string_view kChats = R"([{"model": "", "options": {"num_predict": 100}, "messages": [
  {"role": "user", "content": "How high is the Zugspitze?"},
  {"role": "assistant", "tool_calls": [{"function": {"name": "height", "arguments": {"of": "Zugspitze"}}}]},
  {"role": "tool", "tool_name": "height", "content": "2962 m"}],
  "tools": [{"type": "function", "function": {"name": "height", "description": "The height of a mountain.", "parameters":
    {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]}}}],
  "format": {"type": "integer"}}])";
constexpr std::string_view kEmbeds = R"([{"model": "", "input": ["a text", "another"]}])";
constexpr std::string_view kOldEmbeds = R"([{"model": "", "prompt": "a text"}])";
constexpr std::string_view kShows = R"([{"model": ""}])";

constexpr ApiRoute kRoutes[] = {
    post_route("/api/generate", parse_generate, kGenerates),
    post_route("/api/chat", parse_chat, kChats),
    post_route("/api/embed", parse_embed, kEmbeds),
    post_route("/api/embeddings", parse_old_embed, kOldEmbeds),
    post_route("/api/show", show, kShows),
    {"GET", "/api/tags", tags, ApiRoute::Runs::here},
    {"GET", "/api/ps", running, ApiRoute::Runs::here},
    {"GET", "/api/version", show_version, ApiRoute::Runs::here},
    post_route("/api/pull", refuse_management, kShows),
    post_route("/api/push", refuse_management, kShows),
    post_route("/api/create", refuse_management, kShows),
    post_route("/api/copy", refuse_management, kShows),
    {"DELETE", "/api/delete", refuse_management},
};

}  // namespace

Dialect ollama_dialect() { return {"Ollama", kRoutes, error_body}; }

}  // namespace millrace
