// bench: prefill and decode speed of a model, with what the machine gives at most beside it; of a model that
// gives embeddings, how fast it reads texts.
#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>

#include "base/json.h"
#include "cli/bandwidth.h"
#include "cli/embedding_engine.h"
#include "cli/loaded_model.h"
#include "cli/progress.h"
#include "cli/verb.h"
#include "cli/weight_place.h"
#include "engine/engine_options.h"
#include "engine/runner.h"

namespace millrace {
namespace {

constexpr int64_t kPageSize = 32;
constexpr int64_t kMaxRows = 512;  // as the engine's default

double seconds_of(const auto& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Spread {
  double median, min, max;
};

Spread spread_of(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t n = values.size();
  return {(values[(n - 1) / 2] + values[n / 2]) / 2.0, values.front(), values.back()};
}

// Sum of `size_of(tensor)` over the weights that one decoded token reads: all but the embedding table where
// the head is another matrix; of experts the share that is used.
double sum_a_token(const Checkpoint& checkpoint, const auto& size_of) {
  const Metadata& metadata = checkpoint.metadata();
  const std::string arch(metadata.need<std::string_view>("general.architecture"));
  const auto n_experts = static_cast<double>(metadata.get_or<int64_t>(arch + ".expert_count", 0));
  const auto n_used = static_cast<double>(metadata.get_or<int64_t>(arch + ".expert_used_count", 0));
  const bool has_head = checkpoint.find("output.weight") != nullptr;
  double sum = 0.0;
  for (const NamedTensor& named : checkpoint.tensors()) {
    if (named.name == "token_embd.weight" && has_head) continue;
    const bool is_of_experts = named.name.find("_exps.") != std::string::npos;
    sum += static_cast<double>(size_of(named)) * (is_of_experts && n_experts > 0 ? n_used / n_experts : 1.0);
  }
  return sum;
}

double bytes_a_token(const Checkpoint& checkpoint) {
  return sum_a_token(checkpoint, [](const NamedTensor& named) { return named.tensor.n_bytes(); });
}

// Multiplications and additions of one token of a prompt with the weights; the head is for the last one
// alone.
double flops_a_prompt_token(const Checkpoint& checkpoint) {
  return 2.0 * sum_a_token(checkpoint, [](const NamedTensor& named) {
           return named.name.starts_with("blk.") ? named.tensor.n_elems() : 0;
         });
}

// Computing is done when memory is read.
void wait_for(const Buffer& buffer, Memory& memory) {
  std::byte byte;
  memory.read(buffer.data(), {&byte, 1});
}

class Bench final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("MODEL", "A .gguf file (of a split model, the first)", model_, Args::Presence::needed);
    args.option("--pp", "Tokens of the prompt; 0: no prefill test", n_prompt_);
    args.option("--tg", "Tokens to generate, 128 if not given; 0: no decode test", wanted_generated_);
    args.option("--depth", "Positions that are computed before each test", depth_);
    args.option("--batch", "Sequences at once", n_sequences_);
    args.option("--repeat", "How often each test runs", n_repeats_);
    args.flag("--json", "Print one JSON object", is_json_);
    weight_place_.declare(args);
    compute_.declare(args);
  }

  void run() override {
    n_generated_ = wanted_generated_.value_or(n_generated_);
    const std::pair<const char*, int64_t> numbers[] = {
        {"--pp", n_prompt_}, {"--tg", n_generated_}, {"--depth", depth_}};
    for (const auto& [name, value] : numbers) {
      if (value < 0 || value > 1 << 24)
        fail(ErrorKind::usage, "{} is {}, expected 0 to 16777216", name, value);
    }
    if (n_sequences_ < 1 || n_sequences_ > kMaxRows)
      fail(ErrorKind::usage, "--batch is {}, expected 1 to {}", n_sequences_, kMaxRows);
    if (n_repeats_ < 1) fail(ErrorKind::usage, "--repeat is {}, expected at least 1", n_repeats_);
    LoadedModel loaded = load(model_, compute_, WithTokenizer::no, Gives::either);
    const bool gives_embeddings = loaded.model->shape().gives_embeddings();
    if (gives_embeddings) refuse_decoding();
    place_weights(
        loaded, compute_,
        gives_embeddings ? runner_shape(*loaded.model, embedding_options(loaded)) : shape_for(*loaded.model));
    if (std::jthread copying = weight_place_.copy(loaded); copying.joinable()) copying.join();
    gives_embeddings ? measure_embeddings(loaded) : measure(loaded);
  }

 private:
  // n_sequences_ histories of `n_tokens`, each on pages of its own.
  std::vector<Sequence> histories(int64_t n_tokens, int64_t n_vocab) const {
    std::vector<Sequence> out(static_cast<size_t>(n_sequences_));
    const int64_t n_pages = (n_tokens + kPageSize - 1) / kPageSize;
    for (size_t s = 0; s < out.size(); ++s) {
      for (int64_t i = 0; i < n_tokens; ++i)
        out[s].tokens.push_back(static_cast<int32_t>((i * 7919 + static_cast<int64_t>(s)) % n_vocab));
      out[s].slot = static_cast<Slot>(s);
      out[s].pages.resize(static_cast<size_t>(n_pages));
      std::iota(out[s].pages.begin(), out[s].pages.end(),
                static_cast<Page>(static_cast<int64_t>(s) * n_pages));
    }
    return out;
  }

  static PlannedRows planned(Sequence& sequence, int64_t begin, int64_t end) {
    return {&sequence, begin, end, begin == 0 ? -1 : sequence.slot, sequence.slot};
  }

  // Positions [begin, end) of every sequence, in steps of up to kMaxRows rows, one sequence after the other.
  static void prefill(Runner& runner, std::vector<Sequence>& sequences, int64_t begin, int64_t end) {
    for (Sequence& sequence : sequences) {
      for (int64_t at = begin; at < end; at += kMaxRows) {
        const PlannedRows rows = planned(sequence, at, std::min(end, at + kMaxRows));
        runner.run({&rows, 1});
      }
    }
  }

  static void decode(Runner& runner, std::vector<Sequence>& sequences, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      std::vector<PlannedRows> rows;
      for (Sequence& sequence : sequences) {
        sequence.tokens.resize(static_cast<size_t>(at + 1));  // so that its logits are wanted
        rows.push_back(planned(sequence, at, at + 1));
      }
      runner.run(rows);
    }
  }

  void refuse_decoding() const {
    if (depth_ > 0 || wanted_generated_.value_or(0) > 0 || n_prompt_ == 0)
      fail(ErrorKind::usage, "the model gives embeddings: only --pp above 0 can be measured");
  }

  // --batch texts of --pp tokens at once, without a prefix cache.
  Engine::Options embedding_options(const LoadedModel& loaded) const {
    return options_for_embeddings(loaded, {.pooling = loaded.model->shape().pooling,
                                           .n_ctx = n_prompt_,
                                           .n_sequences = n_sequences_,
                                           .n_texts = n_sequences_,
                                           .kv_dtype = compute_.kv_type(),
                                           .has_prefix_cache = false});
  }

  void measure_embeddings(const LoadedModel& loaded) const {
    const ModelShape& shape = loaded.model->shape();
    Engine engine(*loaded.model, *loaded.backend, embedding_options(loaded));
    ProgressBar progress("bench", n_repeats_ + 1);
    embed(engine, shape.n_vocab);  // weights and memory are touched once
    std::vector<double> speeds;
    for (int64_t i = 0; i < n_repeats_; ++i) {
      progress.advance(i + 1);
      const double s = seconds_of([&] { embed(engine, shape.n_vocab); });
      speeds.push_back(static_cast<double>(n_prompt_ * n_sequences_) / s);
    }
    progress.finish();
    Json out = settings();
    add_speeds(out, "embed", n_prompt_, speeds);
    if (is_json_) fmt::print("{}\n", out.dump());
  }

  void embed(Engine& engine, int64_t n_vocab) const {
    std::vector<Request> requests;
    for (const Sequence& text : histories(n_prompt_, n_vocab)) requests.push_back({.prompt = text.tokens});
    embed_all(engine, requests);
  }

  Json settings() const {
    Json out;
    out["threads"] = compute_.n_threads();
    out["batch"] = n_sequences_;
    out["depth"] = depth_;
    return out;
  }

  void add_speeds(Json& out, const char* name, int64_t n, const std::vector<double>& values) const {
    if (values.empty()) return;
    const Spread spread = spread_of(values);
    Json& test = out[name];
    test["n_tokens"] = n;
    test["tokens_per_s"]["median"] = spread.median;
    test["tokens_per_s"]["min"] = spread.min;
    test["tokens_per_s"]["max"] = spread.max;
    if (!is_json_)
      fmt::print("{:<8} {:>6} tokens  {:>9.1f} tokens/s  ({:.1f} to {:.1f})\n", name, n, spread.median,
                 spread.min, spread.max);
  }

  // Positions of the longest sequence.
  int64_t n_tokens_each() const { return depth_ + std::max<int64_t>({n_prompt_, n_generated_, 1}); }

  RunnerShape shape_for(const Model& model) const {
    const int64_t n_tokens = n_tokens_each();
    const int64_t n_pages = n_sequences_ * ((n_tokens + kPageSize - 1) / kPageSize);
    return {.memory = {.kv = {.layers = model.shape().kv_layers,
                              .n_pages = n_pages,
                              .page_size = kPageSize,
                              .dtype = compute_.kv_type(),
                              .n_panes = n_pages},
                       .states = {.layers = model.shape().state_layers, .n_slots = n_sequences_}},
            .limits = {.max_rows = kMaxRows,
                       .max_sequences = n_sequences_,
                       .max_logit_rows = n_sequences_,
                       .max_pages = n_tokens / kPageSize + 1}};
  }

  void measure(const LoadedModel& loaded) {
    const ModelShape& shape = loaded.model->shape();
    const RunnerShape runner_shape = shape_for(*loaded.model);
    const SequenceMemory memory(runner_shape.memory, loaded.backend->memory());
    Runner runner(*loaded.model, *loaded.backend, memory, runner_shape.limits);
    const int64_t n_tokens = n_tokens_each();
    std::vector<Sequence> sequences =
        histories(n_tokens, shape.n_vocab);  // after the runner knows that all fits
    ProgressBar progress("bench", 2 * n_repeats_ + 1);
    prefill(runner, sequences, 0, std::min<int64_t>(n_tokens, 16));  // pages and weights are touched once
    const std::optional<DeviceLimits> limits = loaded.backend->measure_limits();
    const Buffer probe(1, loaded.backend->memory());
    std::vector<double> pp, tg, bandwidth;
    for (int64_t i = 0; i < n_repeats_; ++i) {
      if (depth_ > 0) prefill(runner, sequences, 0, depth_);
      wait_for(probe, loaded.backend->memory());
      if (n_prompt_ > 0) {
        const double s = seconds_of([&] {
          prefill(runner, sequences, depth_, depth_ + n_prompt_);
          wait_for(probe, loaded.backend->memory());
        });
        pp.push_back(static_cast<double>(n_prompt_ * n_sequences_) / s);
      }
      progress.advance(2 * i + 1);
      if (n_generated_ > 0) {
        bandwidth.push_back(limits ? limits->read_bytes_per_second
                                   : measure_read_bandwidth(compute_.n_threads()));
        const double s = seconds_of([&] { decode(runner, sequences, depth_, depth_ + n_generated_); });
        tg.push_back(static_cast<double>(n_generated_ * n_sequences_) / s);
        sequences = histories(n_tokens, shape.n_vocab);
      }
      progress.advance(2 * i + 2);
    }
    progress.finish();
    report(*loaded.checkpoint, limits, pp, tg, bandwidth);
  }

  void report(const Checkpoint& checkpoint, const std::optional<DeviceLimits>& limits,
              const std::vector<double>& pp, const std::vector<double>& tg,
              const std::vector<double>& bandwidth) const {
    Json out = settings();
    add_speeds(out, "prefill", n_prompt_, pp);
    if (!pp.empty() && limits) {
      const double flops = flops_a_prompt_token(checkpoint) * spread_of(pp).median;
      const double limit = limits->bf16_flops_per_second;
      out["prefill"]["weights_flops_per_s"] = flops;
      out["prefill"]["bf16_limit_flops_per_s"] = limit;
      out["prefill"]["share_of_bf16_limit"] = flops / limit;
      if (!is_json_) {
        fmt::print(
            "prefill multiplies weights at {:.1f} TFLOP/s, {:.0f} % of the {:.1f} that products in "
            "bfloat16 reach on this GPU\n",
            flops / 1e12, 100.0 * flops / limit, limit / 1e12);
      }
    }
    add_speeds(out, "decode", n_generated_, tg);
    if (!tg.empty()) {
      const double weights =
          bytes_a_token(checkpoint) * spread_of(tg).median / static_cast<double>(n_sequences_);
      const double limit = spread_of(bandwidth).median;
      out["decode"]["weights_bytes_per_s"] = weights;
      out["decode"]["read_bandwidth_bytes_per_s"] = limit;
      out["decode"]["share_of_bandwidth"] = weights / limit;
      if (!is_json_) {
        const std::string who = limits ? "this GPU" : fmt::format("{} threads", compute_.n_threads());
        fmt::print("decode reads {:.1f} GB/s of weights, {:.0f} % of the {:.1f} GB/s read by {} beside it\n",
                   weights / 1e9, 100.0 * weights / limit, limit / 1e9, who);
      }
    }
    if (is_json_) fmt::print("{}\n", out.dump());
  }

  std::string model_;
  std::optional<int32_t> wanted_generated_;
  int64_t n_prompt_ = 512, n_generated_ = 128, depth_ = 0, n_sequences_ = 1, n_repeats_ = 3;
  bool is_json_ = false;
  ComputeOptions compute_;
  WeightPlace weight_place_;
};

}  // namespace

std::unique_ptr<Command> make_bench() { return std::make_unique<Bench>(); }

}  // namespace millrace
