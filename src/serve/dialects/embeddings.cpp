// POST /v1/embeddings, and /v1/rerank under all of its names.
#include "serve/dialects/embeddings.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "serve/dialects/openai.h"

namespace millrace {
namespace {

constexpr size_t kMaxTexts = 2048;
constexpr size_t kMaxTextBytes = size_t{16} << 20;

std::string base64(std::span<const float> values) {
  static_assert(std::endian::native == std::endian::little);
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  const size_t n = values.size() * sizeof(float);
  std::string out;
  for (size_t at = 0; at < n; at += 3) {
    const auto byte = [&](size_t i) { return at + i < n ? uint32_t{bytes[at + i]} : 0u; };
    const uint32_t word = byte(0) << 16 | byte(1) << 8 | byte(2);
    for (size_t digit = 0; digit < 4; ++digit)
      out += at + digit > n ? '=' : kDigits[word >> (18 - 6 * digit) & 63];
  }
  return out;
}

class OpenAiEmbeddings final : public EmbeddingEncoder {
 public:
  OpenAiEmbeddings(const ServedModel& model, bool is_base64) : model_(model), is_base64_(is_base64) {}

  std::string whole(std::span<const Piece> choices, const Totals& totals) override {
    Json::Array data;
    for (const Piece& piece : choices) {
      Json one;
      one["object"] = "embedding";
      one["index"] = piece.choice;
      one["embedding"] = is_base64_ ? Json(base64(piece.embedding)) : Json(float_list(piece.embedding));
      data.push_back(std::move(one));
    }
    Json out;
    out["object"] = "list";
    out["data"] = std::move(data);
    out["model"] = model_.names.front();
    out["usage"]["prompt_tokens"] = totals.n_prompt;
    out["usage"]["total_tokens"] = totals.n_prompt;
    return out.dump();
  }

 private:
  const ServedModel& model_;
  const bool is_base64_;
};

void need_fit(const ServedModel& model, const std::vector<int32_t>& ids, std::string_view name,
              size_t index) {
  const std::string param = fmt::format("{}[{}]", name, index);
  if (ids.empty()) refuse_field(param, "{} is empty, expected at least one token", param);
  if (std::ssize(ids) > model.n_ctx())
    throw ApiError(400, fmt::format("{} has {} tokens, the context {}", param, ids.size(), model.n_ctx()),
                   param, "context_length_exceeded");
  for (const int32_t id : ids) {
    if (id >= model.shape.n_vocab)
      refuse_field(param, "{} holds token {}, the vocabulary has {}", param, id, model.shape.n_vocab);
  }
}

std::vector<int32_t> ids_of(const Json& list, std::string_view name) {
  std::vector<int32_t> out;
  for (const Json& id : list.as_array()) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() > INT32_MAX)
      refuse_field(std::string(name), "{} holds {}, expected texts or lists of token ids", name,
                   id.type_name());
    out.push_back(static_cast<int32_t>(id.as_int()));
  }
  return out;
}

// Scores, best first.
class Scores final : public EmbeddingEncoder {
 public:
  Scores(const ServedModel& model, std::vector<std::string> documents, size_t n_top)
      : model_(model), documents_(std::move(documents)), n_top_(n_top) {}

  std::string whole(std::span<const Piece> choices, const Totals& totals) override {
    std::vector<size_t> order(choices.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return choices[i].embedding.front(); });
    order.resize(std::min(order.size(), n_top_));
    Json::Array results;
    for (const size_t i : order) {
      Json one;
      one["index"] = i;
      one["document"]["text"] = documents_[i];
      one["relevance_score"] = double{choices[i].embedding.front()};
      results.push_back(std::move(one));
    }
    Json out;
    out["object"] = "list";
    out["model"] = model_.names.front();
    out["results"] = std::move(results);
    out["usage"]["prompt_tokens"] = totals.n_prompt;
    out["usage"]["total_tokens"] = totals.n_prompt;
    return out.dump();
  }

 private:
  const ServedModel& model_;
  const std::vector<std::string> documents_;
  const size_t n_top_;
};

}  // namespace

void need_embeddings(const ServedModel& model) {
  if (!model.shape.gives_embeddings())
    throw ApiError(400, "the model gives tokens and no embeddings", "model");
}

std::vector<std::vector<int32_t>> read_texts_to_embed(Fields& fields, const ServedModel& model,
                                                      std::string_view name) {
  need_embeddings(model);
  const Json* given = &fields.need(fields.any(name), name);
  const std::string param(name);
  const auto encode = [&](const std::string& text) {
    if (text.size() > kMaxTextBytes) refuse_field(param, "{} holds a text of {} bytes", param, text.size());
    return model.need_tokenizer().encode(text, {.add_special = true});
  };
  std::vector<std::vector<int32_t>> out;
  if (given->is_string()) {
    out.push_back(encode(given->as_string()));
  } else if (!given->is_array() || given->as_array().empty()) {
    refuse_field(param, "{} should be a text or a list that is not empty, found {}", param,
                 given->type_name());
  } else if (given->as_array().front().is_int()) {
    out.push_back(ids_of(*given, name));
  } else {
    if (given->as_array().size() > kMaxTexts)
      refuse_field(param, "{} has {} entries, expected at most {}", param, given->as_array().size(),
                   kMaxTexts);
    for (const Json& each : given->as_array()) {
      if (!each.is_string() && !each.is_array())
        refuse_field(param, "{} holds {}, expected texts or lists of token ids", param, each.type_name());
      out.push_back(each.is_string() ? encode(each.as_string()) : ids_of(each, name));
    }
  }
  for (size_t i = 0; i < out.size(); ++i) need_fit(model, out[i], name, i);
  return out;
}

Ask ask_to_embed(std::vector<std::vector<int32_t>> texts) {
  Ask ask;
  for (std::vector<int32_t>& text : texts) {
    Ask::Choice& choice = ask.choices.emplace_back();
    choice.prompt = ask.choices.size() - 1;
    choice.request.prompt = std::move(text);
  }
  return ask;
}

// A float32 is exact in a double, but prints as one: only what is needed to read the float again is kept.
Json::Array float_list(std::span<const float> values) {
  Json::Array out;
  for (const float value : values) out.emplace_back(std::stod(fmt::format("{}", value)));
  return out;
}

Parsed parse_embeddings(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  Fields fields(body);
  need_model(incoming, fields.text("model"));
  const auto format = fields.choice("encoding_format", {"float", "base64"});
  std::vector<std::vector<int32_t>> texts = read_texts_to_embed(fields, incoming.model, "input");
  if (incoming.model.engine.options().pooling == Pooling::rank)
    throw ApiError(400, "the model gives scores: use /v1/rerank", "model");
  if (const auto n = fields.integer("dimensions", 1, INT32_MAX); n && *n != incoming.model.shape.n_embedding)
    refuse_field("dimensions", "dimensions is {}, embeddings are as wide as the model makes them: {}", *n,
                 incoming.model.shape.n_embedding);
  fields.allow({"user"});
  fields.finish();
  Ask ask = ask_to_embed(std::move(texts));
  ask.encoder = std::make_unique<OpenAiEmbeddings>(incoming.model, format == "base64");
  return ask;
}

Parsed parse_rerank(const Incoming& incoming) {
  const Json body = json_body(incoming.http);
  const ServedModel& model = incoming.model;
  Fields fields(body);
  need_model(incoming, fields.text("model"));
  const std::string query = fields.need(fields.text("query"), "query");
  std::vector<std::string> documents = fields.texts("documents", kMaxTexts);
  if (documents.empty()) refuse_field("documents", "documents is empty, expected at least one text");
  const int64_t n_top = fields.integer("top_n", 1, INT32_MAX).value_or(std::ssize(documents));
  fields.allow({"return_documents", "user"});
  fields.finish();
  need_embeddings(model);
  if (model.engine.options().pooling != Pooling::rank)
    throw ApiError(400, "the model gives embeddings and no scores", "model");
  Ask ask;
  for (size_t i = 0; i < documents.size(); ++i) {
    auto pair = model.need_tokenizer().encode_pair(query, documents[i]);
    if (!pair) throw ApiError(400, "the tokenizer does not say how a query and a text stand together");
    need_fit(model, pair->ids, "documents", i);
    Ask::Choice& choice = ask.choices.emplace_back();
    choice.prompt = i;
    choice.request.prompt = std::move(pair->ids);
    choice.request.token_types = std::move(pair->types);
  }
  ask.encoder = std::make_unique<Scores>(model, std::move(documents), static_cast<size_t>(n_top));
  return ask;
}

}  // namespace millrace
