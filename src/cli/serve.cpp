// serve: the HTTP server.
#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "base/log.h"
#include "cli/loaded_model.h"
#include "cli/prefix_cache_options.h"
#include "cli/sampling_options.h"
#include "cli/verb.h"
#include "cli/weight_place.h"
#include "engine/engine_options.h"
#include "grammar/grammar_source.h"
#include "serve/kv_event_publisher.h"
#include "serve/net/server.h"
#include "serve/service.h"
#include "serve/traces.h"

namespace millrace {
namespace {

// A longer context is taken when it is asked for: its memory would surprise.
constexpr int64_t kDefaultContext = 8192;

// The engine is there before the server that it wakes.
class LateWaker {
 public:
  void set(Waker wake) {
    const std::lock_guard lock(mutex_);
    wake_ = std::move(wake);
  }
  void wake() {
    const std::lock_guard lock(mutex_);
    if (wake_) wake_();
  }

 private:
  std::mutex mutex_;
  Waker wake_;
};

// Whether and where routers hear what the prefix cache holds.
class KvEventOptions {
 public:
  void declare(Args& args) {
    args.option("--kv-events",
                "Publish what the prefix cache holds over ZeroMQ as vLLM does: listens at tcp://*:5557 or "
                "ipc://PATH, connects to tcp://HOST:5557",
                endpoint_);
    args.option("--kv-events-replay", "Answer at this endpoint of ZeroMQ who missed some of it, tcp://*:5558",
                replay_endpoint_);
    args.option("--kv-events-topic", "The topic of what is published", topic_);
    args.option("--kv-events-format", "maps, or arrays as vLLM had them before June 2026", format_);
  }

  bool are_wanted() const { return endpoint_.has_value(); }
  KvEventPublisher::Options publisher(int64_t page_size) const {
    const bool has_maps = !format_ || *format_ == "maps";
    if (!has_maps && *format_ != "arrays")
      fail(ErrorKind::usage, "--kv-events-format should be maps or arrays, found {}", printable(*format_));
    return {.endpoint = *endpoint_,
            .replay_endpoint = replay_endpoint_.value_or(""),
            .topic = topic_.value_or(""),
            .format = has_maps ? KvEventPublisher::Format::maps : KvEventPublisher::Format::arrays,
            .page_size = page_size};
  }
  void need_settings() const {
    if (!endpoint_ && (replay_endpoint_ || topic_ || format_))
      fail(ErrorKind::usage,
           "--kv-events-replay, --kv-events-topic and --kv-events-format belong to --kv-events: give it too");
  }

 private:
  std::optional<std::string> endpoint_, replay_endpoint_, topic_, format_;
};

class Serve final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("MODEL", "A .gguf file (of a split model, the first) or a Hugging Face folder", model_,
                    Args::Presence::needed);
    args.option("--host", "The address to listen on", server_.host);
    args.option("--port", "The port; 0: any that is free", server_.port);
    args.option("--unix-socket", "Listen on this path instead, for this user alone", server_.unix_socket);
    args.option("-c,--ctx",
                "Positions of the longest conversation; 0: what the model was trained for, at most 8192",
                n_ctx_);
    args.option("--parallel", "Answers computed at once; further requests wait", n_parallel_);
    args.option("--kv-tokens",
                "Positions kept for all conversations and the prefix cache; 0: 4 contexts, at most one each "
                "of --parallel",
                n_kv_positions_);
    args.option("--max-waiting", "Requests that may wait; beyond that they are refused", n_waiting_);
    args.option("--served-name",
                "A name that clients call the model by (may be given more than once); else its file's",
                names_);
    args.option("--allow-host",
                "A Host that clients may send besides those of this machine (may be given more than once)",
                allowed_hosts_);
    args.option("--cors-origin",
                "A site whose pages may ask, https://example.org (may be given more than once); * for all",
                cors_origins_);
    args.option("--api-key", "A key that clients must send (may be given more than once)", api_keys_);
    args.option("--api-keys", "A JSON file of keys, as SHA-256 and with limits; read again at SIGHUP",
                keys_file_);
    args.flag("--metrics-without-key", "Answer /metrics without a key", opens_metrics_);
    args.option("--tls-cert", "Answer https with this certificate (PEM); read again at SIGHUP", certificate_);
    args.option("--tls-key", "The key of the certificate (PEM)", certificate_key_);
    args.option("--pooling",
                "Of a model that gives embeddings, what a text becomes: mean, cls, last or rank; else what "
                "it asks for",
                pooling_);
    args.flag("--allow-no-key", "Listen on an address that others reach, and answer whoever asks",
              allows_no_key_);
    args.option("--max-body-mib", "The longest request, in MiB", max_body_mib_);
    args.option("--drain-seconds", "Time for running requests when the server is told to end", drain_s_);
    args.option("--otlp", "Send traces of requests to this collector of OpenTelemetry, http://127.0.0.1:4318",
                collector_);
    kv_events_.declare(args);
    prefix_cache_.declare(args);
    weight_place_.declare(args);
    sampling_.declare(args);
    compute_.declare(args);
  }

  void run() override {
    inherit_socket();
    need_settings();
    set_log_level(LogLevel::info);
    LoadedModel loaded = load(model_, compute_, WithTokenizer::yes, Gives::either);
    LateWaker waker;
    Engine::Options engine_options = options_of(loaded);
    engine_options.on_events = [&waker] { waker.wake(); };
    std::optional<ChatPrompt> chat;
    if (loaded.template_source && loaded.tokenizer != nullptr)
      chat.emplace(*loaded.tokenizer, *loaded.template_source);
    std::optional<ChatTools> chat_tools;
    if (chat) chat_tools.emplace(*chat, *loaded.template_source, *loaded.tokenizer);
    std::optional<GrammarCache> grammars;
    if (loaded.tokenizer != nullptr)
      grammars.emplace(*loaded.tokenizer, static_cast<int32_t>(loaded.model->shape().n_vocab));
    std::optional<KvEventQueue> kv_events;
    std::optional<KvEventPublisher> publisher;
    if (kv_events_.are_wanted()) {
      publisher.emplace(kv_events.emplace(), kv_events_.publisher(engine_options.page_size));
      engine_options.prefix_listener = &*kv_events;
      engine_options.on_events = [&] {
        kv_events->flush();  // first: whoever has an answer finds counted what it changed
        waker.wake();
      };
    }
    place_weights(loaded, compute_, runner_shape(*loaded.model, engine_options, loaded.backend.get()));
    Engine engine(*loaded.model, *loaded.backend, engine_options);
    const std::jthread copying = weight_place_.copy(loaded);
    ServedModel model = served(loaded, engine, chat ? &*chat : nullptr);
    if (grammars) model.grammars = &*grammars;
    if (chat_tools) model.chat_tools = &*chat_tools;
    if (kv_events) model.kv_events = &*kv_events;
    std::optional<TraceExporter> traces;
    if (collector_) traces.emplace(*collector_);
    Service service(model, access(), keys());
    if (traces) service.trace_to(*traces);
    if (keys_file_) service.on_reload([this, &service] { service.set_keys(keys()); });
    HttpServer server(service, server_);
    waker.set(server.waker());
    fmt::print("listening on {}\n", server.url());
    std::fflush(stdout);
    server.run();
    if (const std::string failure = engine.failure(); !failure.empty())
      fail(ErrorKind::runtime, "{}", failure);
  }

 private:
  // Where a service manager listens for us, that is the address, whatever the options say.
  void inherit_socket() {
    server_.inherited = inherited_socket();
    if (!server_.inherited) return;
    server_.host = server_.inherited->host;
    server_.unix_socket = server_.inherited->path;
  }

  void need_settings() {
    const auto need = [](const char* name, int64_t value, int64_t min, int64_t max) {
      if (value < min || value > max)
        fail(ErrorKind::usage, "{} is {}, expected {} to {}", name, value, min, max);
    };
    need("--port", server_.port, 0, 65535);
    need("--parallel", n_parallel_, 1, 4096);
    need("--max-waiting", n_waiting_, 1, 1 << 20);
    need("--max-body-mib", max_body_mib_, 1, 1024);
    need("--drain-seconds", drain_s_, 0, 86400);
    need("--kv-tokens", n_kv_positions_, 0, INT32_MAX);
    kv_events_.need_settings();
    server_.drain = std::chrono::seconds(drain_s_);
    server_.connection.http.body_bytes = static_cast<size_t>(max_body_mib_) << 20;
    if (certificate_.has_value() != certificate_key_.has_value())
      fail(ErrorKind::usage, "--tls-cert and --tls-key belong together: give both");
    if (certificate_) server_.tls = TlsFiles{*certificate_, *certificate_key_};
    const bool has_keys = !api_keys_.empty() || keys_file_;
    if (!has_keys && server_.unix_socket.empty() && !is_loopback(server_.host) && !allows_no_key_)
      fail(ErrorKind::usage,
           "--host {} is reached by others, and anybody could ask: give --api-key or --api-keys, or say "
           "--allow-no-key to allow that",
           printable(server_.host));
  }

  Engine::Options options_of(const LoadedModel& loaded) const {
    const int64_t n_train = loaded.model->shape().n_ctx_train;
    if (n_ctx_ < 0 || n_ctx_ > n_train)
      fail(ErrorKind::usage, "--ctx is {}, expected 1 to {}, what the model was trained for, or 0", n_ctx_,
           n_train);
    Engine::Options options;
    options.weights_bytes = loaded.checkpoint->n_bytes();
    options.n_ctx = n_ctx_ > 0 ? n_ctx_ : std::min(n_train, kDefaultContext);
    options.n_kv_positions =
        n_kv_positions_ > 0 ? n_kv_positions_ : options.n_ctx * std::min<int64_t>(4, n_parallel_);
    options.max_sequences = n_parallel_;
    options.max_waiting = n_waiting_;
    options.kv_dtype = compute_.kv_type();
    options.tier = prefix_cache_.tier(loaded, model_);
    if (loaded.model->shape().gives_embeddings()) set_embedding_options(loaded.model->shape(), options);
    return options;
  }

  void set_embedding_options(const ModelShape& shape, Engine::Options& options) const {
    options.pooling = pooling_ ? pooling_of_name(*pooling_) : shape.pooling;
    if (!options.pooling || *options.pooling == Pooling::none)
      fail(ErrorKind::usage, "--pooling should be mean, cls, last or rank, found {}: the model does not say",
           pooling_ ? printable(*pooling_) : "none");
    if (shape.needs_whole_sequences(*options.pooling))
      options.max_rows = std::max(options.max_rows, options.n_ctx);
    options.n_kv_positions = n_kv_positions_;
  }

  KeyRing keys() const {
    KeyRing ring = keys_file_ ? KeyRing::of_file(*keys_file_) : KeyRing();
    for (size_t i = 0; i < api_keys_.size(); ++i) {
      if (api_keys_[i].empty()) fail(ErrorKind::usage, "--api-key is empty");
      ring.add({.name = fmt::format("key-{}", i + 1), .digest = sha256(api_keys_[i]), .models = {}});
    }
    return ring;
  }

  ServedModel served(const LoadedModel& loaded, Engine& engine, const ChatPrompt* chat) const {
    ServedModel out{.engine = engine, .shape = loaded.model->shape()};
    out.tokenizer = loaded.tokenizer.get();
    out.chat = chat;
    out.template_knows_developer =
        loaded.template_source && loaded.template_source->find("developer") != std::string::npos;
    out.template_source = loaded.template_source.value_or("");
    out.container = std::filesystem::is_directory(model_) ? "safetensors" : "gguf";
    out.n_bytes = loaded.checkpoint->n_bytes();
    out.names = names_;
    if (names_.empty()) out.names.push_back(name_of_file());
    out.end_tokens = loaded.end_tokens;
    out.sampling = sampling_.sampling(loaded.checkpoint->metadata());
    out.created_unix_s = unix_seconds();
    return out;
  }

  // "models/Llama-3.gguf" is Llama-3, "models/Llama-3/" too.
  std::string name_of_file() const {
    std::filesystem::path path(model_);
    if (path.filename().empty()) path = path.parent_path();
    return path.extension() == ".gguf" ? path.stem().string() : path.filename().string();
  }

  AccessOptions access() const {
    AccessOptions out;
    out.cors_origins = cors_origins_;
    out.metrics_need_key = !opens_metrics_;
    const bool is_open = !server_.unix_socket.empty() || !is_loopback(server_.host);
    if (is_open && allowed_hosts_.empty()) return out;
    if (!is_open) out.hosts = {"localhost", "127.0.0.1", "[::1]", lower_case(server_.host)};
    for (const std::string& host : allowed_hosts_) out.hosts.push_back(lower_case(host));
    return out;
  }

  std::string model_;
  ServerOptions server_;
  int64_t n_ctx_ = 0, n_parallel_ = 16, n_kv_positions_ = 0, n_waiting_ = 1024;
  int64_t max_body_mib_ = 32, drain_s_ = 30;
  bool allows_no_key_ = false, opens_metrics_ = false;
  std::vector<std::string> api_keys_;
  std::optional<std::string> keys_file_, certificate_, certificate_key_, pooling_, collector_;
  std::vector<std::string> names_, allowed_hosts_, cors_origins_;
  SamplingOptions sampling_{SamplingOptions::Otherwise::unchanged};
  PrefixCacheOptions prefix_cache_;
  WeightPlace weight_place_;
  KvEventOptions kv_events_;
  ComputeOptions compute_;
};

}  // namespace

std::unique_ptr<Command> make_serve() { return std::make_unique<Serve>(); }

}  // namespace millrace
