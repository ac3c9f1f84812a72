// Any bytes as the body of a request to any route: the server answers it, with a status that says whose fault
// it is, and answers the next one. The first byte chooses the route.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "grammar/grammar_source.h"
#include "grammar/testing/list_tokenizer.h"
#include "model/model.h"
#include "serve/service.h"

namespace {

using namespace millrace;

constexpr std::string_view kTemplate =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if tools %}{{ tools }}{% endif %}"
    "{% if enable_thinking %}<think>{% endif %}";

// Its logits are those of the position.
class PositionModel final : public Model {
 public:
  explicit PositionModel(int64_t n_vocab) {
    shape_.family = "position";
    shape_.n_layers = shape_.hidden = 1;
    shape_.n_vocab = n_vocab;
    shape_.n_ctx_train = 96;
    shape_.kv_layers = {{.n_kv_heads = 1, .k_head_dim = 1, .v_head_dim = 1}};
  }
  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override {
    const Tensor logits = pass.arena.take(Dtype::f32, {pass.batch.logit_rows.dim(0), shape_.n_vocab});
    if (pass.arena.is_measuring()) return logits;
    for (int64_t i = 0; i < logits.dim(0); ++i) {
      const int32_t position = pass.batch.positions.i32()[pass.batch.logit_rows.i32()[i]];
      for (int64_t token = 0; token < shape_.n_vocab; ++token)
        logits.f32()[i * shape_.n_vocab + token] =
            static_cast<float>((position * 31 + token * 17) % 101) * 0.1f;
    }
    return logits;
  }

 private:
  ModelShape shape_;
};

class NoBackend final : public Backend {
 public:
  std::string_view name() const override { return "none"; }
  void run(const Op&) override {}
};

// The server without its sockets.
class Server {
 public:
  Server()
      : tokenizer_(ListTokenizer::of_bytes({"ab", "\"}", "\",", "true", "<end>"})),
        model_(tokenizer_.n_vocab()),
        grammars_(tokenizer_, tokenizer_.n_vocab()),
        chat_(tokenizer_, kTemplate),
        tools_(chat_, kTemplate, tokenizer_),
        engine_(model_, backend_,
                {.n_kv_positions = 96 * 8, .max_sequences = 4, .on_events = [this] { wake(); }}),
        service_(served(), {}, {}) {
    for (const Dialect& dialect : all_dialects()) {
      for (const ApiRoute& route : dialect.routes) {
        if (!route.examples.empty()) routes_.push_back(&route);
      }
    }
  }

  // The status of the answer.
  int answer(uint8_t route, std::string body) {
    const ApiRoute& asked = *routes_[route % routes_.size()];
    HttpRequest request{.method = std::string(asked.method), .path = std::string(asked.path)};
    request.headers = {{"host", "localhost"}, {"content-type", "application/json"}};
    request.body = std::move(body);
    const auto exchange = service_.start(std::move(request), [this] { wake(); });
    int status = 0;
    while (true) {
      const Exchange::Progress progress = exchange->poll();
      if (progress.head) status = progress.head->status;
      if (progress.is_done) return status;
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, std::chrono::milliseconds(100),
                        [this] { return std::exchange(is_changed_, false); });
    }
  }

 private:
  void wake() {
    {
      const std::lock_guard lock(mutex_);
      is_changed_ = true;
    }
    changed_.notify_one();
  }

  const ServedModel& served() {
    served_.tokenizer = &tokenizer_;
    served_.chat = &chat_;
    served_.chat_tools = &tools_;
    served_.grammars = &grammars_;
    served_.names = {"model"};
    served_.end_tokens = {tokenizer_.n_vocab() - 1};
    return served_;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_changed_ = false;
  ListTokenizer tokenizer_;
  PositionModel model_;
  NoBackend backend_;
  GrammarCache grammars_;
  ChatPrompt chat_;
  ChatTools tools_;
  Engine engine_;
  ServedModel served_{.engine = engine_, .shape = model_.shape()};
  Service service_;
  std::vector<const ApiRoute*> routes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Server server;
  if (size == 0) return 0;
  const int status = server.answer(data[0], {reinterpret_cast<const char*>(data + 1), size - 1});
  if (status < 200 || (status >= 500 && status != 501)) std::abort();
  return 0;
}
