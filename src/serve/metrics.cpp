#include "serve/metrics.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "serve/kv_event_queue.h"

namespace millrace {
namespace {

// vLLM's bounds, so that panels made for it fit.
constexpr double kFirstTokenBounds[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                        1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
constexpr double kGapBounds[] = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                 .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
constexpr double kRequestBounds[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                     30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
constexpr double kTokenBounds[] = {1,    2,    5,    10,    20,    50,    100,    200,   500,
                                   1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};

void write_head(std::string& out, std::string_view name, std::string_view help, std::string_view type) {
  out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

template <class Value>
void write_one(std::string& out, std::string_view name, std::string_view help, std::string_view type,
               std::string_view labels, Value value) {
  write_head(out, name, help, type);
  out += fmt::format("{}{{{}}} {}\n", name, labels, value);
}

// Of this process, as /proc says it.
int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t n_total = 0, n_resident = 0;
  statm >> n_total >> n_resident;
  return n_resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace

std::string label_value(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

void Histogram::add(double value) {
  const auto at = std::ranges::lower_bound(bounds_, value) - bounds_.begin();
  ++counts_[static_cast<size_t>(at)];
  sum_ += value;
}

void Histogram::write(std::string& out, std::string_view name, std::string_view help,
                      std::string_view labels) const {
  write_head(out, name, help, "histogram");
  uint64_t n = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    n += counts_[i];
    out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, bounds_[i], n);
  }
  n += counts_.back();
  out += fmt::format("{}_bucket{{{},le=\"+Inf\"}} {}\n", name, labels, n);
  out += fmt::format("{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", name, labels, sum_, name, labels, n);
}

Metrics::Metrics()
    : first_token_(kFirstTokenBounds),
      gaps_(kGapBounds),
      total_(kRequestBounds),
      queue_(kRequestBounds),
      n_prompt_(kTokenBounds),
      n_generated_(kTokenBounds) {
  for (const std::string_view reason : {"stop", "length", "abort", "error"}) finished_.emplace(reason, 0);
}

void Metrics::count_response(std::string_view method, int status) {
  // Clients may send any word: a label for each would grow without end.
  static constexpr std::string_view kKnown[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"};
  const bool is_known = std::ranges::find(kKnown, method) != std::end(kKnown);
  ++responses_[{is_known ? std::string(method) : "other", status}];
}

void Metrics::count_generation(std::string_view finish, const Totals& totals) {
  ++finished_[std::string(finish)];
  prompt_tokens_ += totals.n_prompt;
  cached_tokens_ += totals.n_cached;
  total_.add(totals.total_s);
  queue_.add(totals.queue_s);
  n_prompt_.add(static_cast<double>(totals.n_prompt));
  n_generated_.add(static_cast<double>(totals.n_generated));
}

std::string Metrics::text(const ServedModel& model) const {
  const std::string labels = fmt::format("model_name=\"{}\",engine=\"0\"", label_value(model.names.front()));
  const Engine::Stats stats = model.engine.stats();
  const Engine::Options& options = model.engine.options();
  std::string out;
  const auto gauge = [&](std::string_view name, std::string_view help, auto value) {
    write_one(out, name, help, "gauge", labels, value);
  };
  const auto counter = [&](std::string_view name, std::string_view help, int64_t value) {
    write_one(out, name, help, "counter", labels, value);
  };
  gauge("vllm:num_requests_running", "Answers that are computed", stats.n_running);
  gauge("vllm:num_requests_waiting", "Answers that wait to be computed", stats.n_waiting);
  gauge("vllm:kv_cache_usage_perc", "Share of the KV cache in use by running answers, 0 to 1",
        stats.n_pages == 0 ? 0.0
                           : static_cast<double>(stats.n_pages_used) / static_cast<double>(stats.n_pages));
  write_one(out, "vllm:lora_requests_info", "Adapters, of which none are served", "gauge",
            labels + ",max_lora=\"0\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"", unix_seconds());
  write_one(
      out, "vllm:cache_config_info", "The KV cache", "gauge",
      labels + fmt::format(",block_size=\"{}\",num_gpu_blocks=\"{}\"", options.page_size, stats.n_pages), 1);
  counter("vllm:num_preemptions_total", "Answers that gave their pages to others for a while",
          stats.n_preemptions);
  counter("millrace:parked_total", "Of those, answers that kept what was computed of them", stats.n_parked);
  counter("millrace:prefix_pages_fetched_total",
          "Pages of prefixes that came from beyond the cache, the disk mostly", stats.n_pages_fetched);
  counter("vllm:prompt_tokens_total", "Tokens of prompts", prompt_tokens_);
  counter("vllm:generation_tokens_total", "Tokens generated", generated_tokens_);
  counter("vllm:prefix_cache_queries_total", "Tokens of prompts looked up in the prefix cache",
          prompt_tokens_);
  counter("vllm:prefix_cache_hits_total", "Tokens of prompts found there", cached_tokens_);
  write_head(out, "vllm:request_success_total", "Answers by how they ended", "counter");
  for (const auto& [reason, n] : finished_)
    out += fmt::format("vllm:request_success_total{{{},finished_reason=\"{}\"}} {}\n", labels, reason, n);
  first_token_.write(out, "vllm:time_to_first_token_seconds",
                     "From the arrival of a request to its first token", labels);
  gaps_.write(out, "vllm:inter_token_latency_seconds", "Between the tokens of an answer", labels);
  total_.write(out, "vllm:e2e_request_latency_seconds",
               "From the arrival of a request to the end of its answer", labels);
  queue_.write(out, "vllm:request_queue_time_seconds",
               "From the arrival of a request until it is first computed", labels);
  n_prompt_.write(out, "vllm:request_prompt_tokens", "Tokens of a prompt", labels);
  n_generated_.write(out, "vllm:request_generation_tokens", "Tokens of an answer", labels);
  write_head(out, "http_requests_total", "Requests answered", "counter");
  for (const auto& [key, n] : responses_)
    out += fmt::format("http_requests_total{{method=\"{}\",status=\"{}\"}} {}\n", label_value(key.first),
                       key.second, n);
  if (model.kv_events != nullptr) {
    const KvEventQueue::Counts counts = model.kv_events->counts();
    counter("millrace:kv_event_batches_total", "Batches of KV events",
            static_cast<int64_t>(counts.n_batches));
    counter("millrace:kv_event_batches_dropped_total",
            "Of those, batches that were not published: too many waited",
            static_cast<int64_t>(counts.n_dropped));
  }
  const MemoryPlan& memory = model.engine.memory();
  gauge("millrace:weights_bytes", "The checkpoint, which is mapped", memory.weights_bytes);
  gauge("millrace:program_bytes", "Memory of the program besides what follows, planned at its start",
        memory.program_bytes);
  gauge("millrace:kv_bytes", "Memory of keys and values", memory.kv_bytes);
  gauge("millrace:state_bytes", "Memory of recurrent states", memory.state_bytes);
  gauge("millrace:arena_bytes", "Memory of activations", memory.arena_bytes);
  gauge("millrace:tier_bytes",
        "Memory of prefixes on their way to the disk and of preempted answers, at most", memory.tier_bytes);
  gauge("millrace:tier_used_bytes", "Of that, what is in use", stats.tier_used_bytes);
  gauge("process_resident_memory_bytes", "Memory of this process, the mapped model included",
        resident_bytes());
  return out;
}

}  // namespace millrace
