// embed: the embeddings of texts, or the scores that a reranker gives them.
#include <unistd.h>

#include <algorithm>

#include "base/file.h"
#include "base/json.h"
#include "cli/embedding_engine.h"
#include "cli/loaded_model.h"
#include "cli/standard_input.h"
#include "cli/verb.h"
#include "engine/engine_options.h"

namespace millrace {
namespace {

constexpr size_t kMaxTextBytes = size_t{1} << 30;
constexpr int64_t kMaxSequences = 64;

// One text a line; the last one may lack its end.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    if (lines.back().ends_with('\r')) lines.back().pop_back();
    at = end + 1;
  }
  return lines;
}

class EmbedTexts final : public Command {
 public:
  EmbedTexts() { compute_.kv_dtype = "f32"; }

  void declare(Args& args) override {
    args.positional("MODEL", "A .gguf file or a Hugging Face folder of a model that gives embeddings", model_,
                    Args::Presence::needed);
    args.positional("TEXT", "Texts; standard input, one a line, where there is no other source", texts_);
    args.option("-f,--file", "Read one text a line from this file", file_);
    args.option("--tokens", "A text as token ids 1,2,3 (may be given more than once)", tokens_);
    args.option("--token-types", "The segments of the ids of --tokens: 0,0,1 (as often as that)",
                token_types_);
    args.option(
        "--pooling",
        "What a text becomes: mean, cls, last, none (one each token) or rank (scores of the head); else "
        "what the model asks for",
        pooling_);
    args.option("--query", "Of a reranker: how well each text answers this", query_);
    args.flag("--normalize", "Scale embeddings to the length 1 (the default)", normalizes_);
    args.flag("--no-normalize", "Leave embeddings as long as the model makes them", normalizes_not_);
    args.flag("--json", "Print one JSON object", is_json_);
    compute_.declare(args);
  }

  void run() override {
    refuse_conflicts();
    LoadedModel loaded = load(model_, compute_, WithTokenizer::yes, Gives::embeddings);
    const Pooling pooling = pooling_for(loaded.model->shape());
    if (query_ && pooling != Pooling::rank)
      fail(ErrorKind::usage, "embed: --query is for models that score texts, this one pools by {}",
           name_of(pooling));
    const std::vector<Request> requests = requests_for(loaded);
    const Engine::Options options = engine_options(loaded, pooling, requests);
    place_weights(loaded, compute_, runner_shape(*loaded.model, options));
    Engine engine(*loaded.model, *loaded.backend, options);
    const int64_t n_elements =
        pooling == Pooling::rank ? loaded.model->shape().n_scores : loaded.model->shape().n_embedding;
    const std::vector<Event> events = embed_all(engine, requests);
    is_json_ ? print_json(events, pooling, n_elements) : print_text(events, n_elements);
  }

 private:
  // What could only be ignored is refused.
  void refuse_conflicts() const {
    const int n_sources = !texts_.empty() + file_.has_value() + !tokens_.empty();
    if (n_sources > 1) fail(ErrorKind::usage, "embed: give texts, --file or --tokens, and only one of them");
    if (query_ && !tokens_.empty()) fail(ErrorKind::usage, "embed: --query cannot be used with --tokens");
    if (normalizes_ && normalizes_not_)
      fail(ErrorKind::usage, "embed: --normalize cannot be used with --no-normalize");
    if (!token_types_.empty() && token_types_.size() != tokens_.size()) {
      fail(ErrorKind::usage, "embed: --token-types is given {} times, --tokens {} times", token_types_.size(),
           tokens_.size());
    }
  }

  Pooling pooling_for(const ModelShape& shape) const {
    if (pooling_) {
      if (const auto pooling = pooling_of_name(*pooling_)) return *pooling;
      fail(ErrorKind::usage, "--pooling {} is not known; known: none, mean, cls, last, rank",
           printable(*pooling_));
    }
    if (shape.pooling != Pooling::none) return shape.pooling;
    fail(ErrorKind::usage,
         "embed: the model does not say what becomes of the tokens of a text: give --pooling mean, cls, "
         "last, or "
         "none for one embedding each token");
  }

  std::vector<Request> requests_for(const LoadedModel& loaded) const {
    std::vector<Request> requests;
    for (size_t i = 0; i < tokens_.size(); ++i) {
      requests.push_back({.prompt = parse_ids(tokens_[i], "--tokens")});
      if (!token_types_.empty()) requests.back().token_types = parse_ids(token_types_[i], "--token-types");
    }
    if (tokens_.empty()) {
      for (const std::string& text : texts()) requests.push_back(request_for(loaded.need_tokenizer(), text));
    }
    for (Request& request : requests) request.normalises = !normalizes_not_;
    return requests;
  }

  Request request_for(const Tokenizer& tokenizer, const std::string& text) const {
    if (!query_) return {.prompt = tokenizer.encode(text, {.add_special = true})};
    auto pair = tokenizer.encode_pair(*query_, text);
    if (!pair) fail(ErrorKind::bad_model, "the tokenizer does not say how a query and a text stand together");
    return {.prompt = std::move(pair->ids), .token_types = std::move(pair->types)};
  }

  std::vector<std::string> texts() const {
    if (!texts_.empty()) return texts_;
    if (file_) return lines_of(read_file(*file_, kMaxTextBytes, ErrorKind::usage));
    if (!is_terminal(STDIN_FILENO)) return lines_of(read_standard_input(kMaxTextBytes));
    fail(ErrorKind::usage, "embed: there is no text: give one, or pipe some in");
  }

  Engine::Options engine_options(const LoadedModel& loaded, Pooling pooling,
                                 const std::vector<Request>& requests) const {
    int64_t n_longest = 1;
    for (const Request& request : requests) n_longest = std::max(n_longest, std::ssize(request.prompt));
    return options_for_embeddings(loaded,
                                  {.pooling = pooling,
                                   .n_ctx = std::min(n_longest, loaded.model->shape().n_ctx_train),
                                   .n_sequences = std::clamp<int64_t>(std::ssize(requests), 1, kMaxSequences),
                                   .n_texts = std::max<int64_t>(1, std::ssize(requests)),
                                   .kv_dtype = compute_.kv_type()});
  }

  // A line each embedding.
  static void print_text(const std::vector<Event>& events, int64_t n_elements) {
    for (const Event& event : events) {
      for (size_t i = 0; i < event.embedding.size(); ++i) {
        const bool is_last = (i + 1) % static_cast<size_t>(n_elements) == 0;
        fmt::print("{:.9g}{}", event.embedding[i], is_last ? '\n' : ' ');
      }
    }
  }

  static void print_json(const std::vector<Event>& events, Pooling pooling, int64_t n_elements) {
    fmt::print("{{\"pooling\":{},\"n_elements\":{},\"embeddings\":[", Json(name_of(pooling)).dump(),
               n_elements);
    for (size_t t = 0; t < events.size(); ++t) {
      Json out;
      out["n_tokens"] = events[t].usage.n_prompt;
      out[pooling == Pooling::rank ? "scores" : "embedding"] = elements(events[t], pooling, n_elements);
      fmt::print("{}{}", t == 0 ? "" : ",", out.dump());
    }
    fmt::print("]}}\n");
  }

  // Numbers, or without pooling an array of them for each token.
  static Json::Array elements(const Event& event, Pooling pooling, int64_t n_elements) {
    Json::Array all;
    for (const float x : event.embedding) all.emplace_back(double{x});
    if (pooling != Pooling::none) return all;
    Json::Array rows;
    for (auto at = all.begin(); at != all.end(); at += n_elements)
      rows.emplace_back(Json::Array(at, at + n_elements));
    return rows;
  }

  std::string model_;
  std::vector<std::string> texts_, tokens_, token_types_;
  std::optional<std::string> file_, pooling_, query_;
  bool normalizes_ = false, normalizes_not_ = false, is_json_ = false;
  ComputeOptions compute_;
};

}  // namespace

std::unique_ptr<Command> make_embed() { return std::make_unique<EmbedTexts>(); }

}  // namespace millrace
