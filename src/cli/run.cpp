// run: a conversation in the terminal, or one answer.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "base/json.h"
#include "base/log.h"
#include "cli/answer.h"
#include "cli/chat.h"
#include "cli/conversation.h"
#include "cli/grammar_options.h"
#include "cli/loaded_model.h"
#include "cli/prefix_cache_options.h"
#include "cli/sampling_options.h"
#include "cli/standard_input.h"
#include "cli/tool_options.h"
#include "cli/verb.h"
#include "cli/weight_place.h"
#include "engine/engine_options.h"

namespace millrace {
namespace {

constexpr size_t kMaxPromptBytes = size_t{64} << 20;
// A longer context is taken when it is asked for: its memory would surprise.
constexpr int64_t kDefaultContext = 8192;

class Run final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("MODEL", "A .gguf file (of a split model, the first)", model_, Args::Presence::needed);
    args.positional("PROMPT",
                    "One question; a conversation where there is none and standard input is a terminal",
                    prompt_, Args::Presence::optional);
    args.option("--system", "The system message", system_);
    args.option("-n,--max-tokens", "At most so many tokens an answer; -1: until the context is full",
                max_tokens_);
    args.option("-c,--ctx", "Positions of the context; 0: what the model was trained for, at most 8192",
                n_ctx_);
    args.option("--snapshots", "States of recurrent layers that are kept for beginnings that come again",
                n_snapshots_);
    args.option("--snapshot-distance", "Positions between such states", snapshot_distance_);
    args.option("--stop", "A text that ends the answer (may be given more than once)", stops_);
    args.flag("--think", "Ask the chat template for reasoning", thinks_);
    args.flag("--no-think", "Ask the chat template for no reasoning", thinks_not_);
    args.option("--thinking-budget", "At most so many tokens of reasoning: then the answer must begin",
                max_reasoning_);
    args.flag("--raw", "No chat template: the prompt is continued", is_raw_);
    args.option("--tokens", "The prompt as token ids 1,2,3 (implies --raw)", tokens_);
    args.flag("--ignore-eos", "Go on after a token that ends the answer", ignores_end_);
    args.flag("--json", "Print one JSON object when the answer is complete", is_json_);
    prefix_cache_.declare(args);
    weight_place_.declare(args);
    sampling_.declare(args);
    grammar_.declare(args);
    tool_options_.declare(args);
    compute_.declare(args);
  }

  void run() override {
    refuse_conflicts();
    const ToolUse tools = tool_options_.use();
    const std::optional<GrammarSource> grammar = grammar_.source();
    LoadedModel loaded = load(model_, compute_, WithTokenizer::yes);
    if (!stops_.empty() && loaded.tokenizer == nullptr)
      fail(ErrorKind::usage, "--stop needs a text, and the model has no tokenizer to make one");
    const Engine::Options options = engine_options(loaded);
    place_weights(loaded, compute_, runner_shape(*loaded.model, options, loaded.backend.get()));
    Engine engine(*loaded.model, *loaded.backend, options);
    // A first token that comes at once has the memory and the cores for itself.
    constexpr std::chrono::milliseconds kFirstToken{500};
    const std::jthread copying = weight_place_.copy(loaded, kFirstToken);
    request_.sampling = sampling_.sampling(loaded.checkpoint->metadata());
    request_.max_tokens = max_tokens_;
    request_.ignore_end = ignores_end_;
    request_.end_tokens = loaded.end_tokens;
    if (is_raw_ || tokens_) return continue_text(engine, loaded, grammar);
    Conversation conversation(engine, loaded, request_,
                              {.system = system_.value_or(""),
                               .thinking = thinking(),
                               .content = grammar,
                               .max_reasoning = max_reasoning_,
                               .tools = tools,
                               .stops = stops_});
    if (prompt_.empty() && !is_json_ && is_terminal(STDIN_FILENO)) {
      Chat(conversation).run();
    } else {
      answer_once(engine, conversation);
    }
  }

 private:
  Engine::Options engine_options(const LoadedModel& loaded) const {
    const Model& model = *loaded.model;
    Engine::Options options;
    options.weights_bytes = loaded.checkpoint->n_bytes();
    options.n_ctx = n_ctx_ > 0 ? n_ctx_ : std::min(model.shape().n_ctx_train, kDefaultContext);
    if (n_ctx_ < 0 || n_ctx_ > model.shape().n_ctx_train) {
      fail(ErrorKind::usage, "--ctx is {}, expected 1 to {}, what the model was trained for, or 0", n_ctx_,
           model.shape().n_ctx_train);
    }
    options.kv_dtype = compute_.kv_type();
    options.tier = prefix_cache_.tier(loaded, model_);
    options.max_sequences = 1;
    options.n_snapshots = n_snapshots_.value_or(options.n_snapshots);
    options.snapshot_distance = snapshot_distance_.value_or(options.snapshot_distance);
    if ((n_snapshots_ || snapshot_distance_) && model.shape().state_layers.empty())
      fail(ErrorKind::usage, "--snapshots and --snapshot-distance: the model has no recurrent layers");
    return options;
  }

  // What could only be ignored is refused.
  void refuse_conflicts() const {
    const bool is_template_unused = is_raw_ || tokens_;
    const struct {
      bool is_conflict;
      const char *given, *with;
    } conflicts[] = {{thinks_ && thinks_not_, "--think", "--no-think"},
                     {tokens_ && !prompt_.empty(), "a prompt", "--tokens"},
                     {ignores_end_ && grammar_.is_given(), "--ignore-eos", "a grammar, which must end"},
                     {ignores_end_ && tool_options_.is_given(), "--ignore-eos", "--tools: calls must end"},
                     {is_template_unused && tool_options_.is_given(), "--tools", "--raw or --tokens"},
                     {is_template_unused && system_, "--system", "--raw or --tokens"},
                     {is_template_unused && thinks_, "--think", "--raw or --tokens"},
                     {is_template_unused && thinks_not_, "--no-think", "--raw or --tokens"},
                     {is_template_unused && max_reasoning_, "--thinking-budget", "--raw or --tokens"}};
    if (max_reasoning_.value_or(0) < 0)
      fail(ErrorKind::usage, "--thinking-budget is {}, expected 0 or more", *max_reasoning_);
    for (const auto& [is_conflict, given, with] : conflicts) {
      if (is_conflict) fail(ErrorKind::usage, "run: {} cannot be used with {}", given, with);
    }
  }

  std::optional<bool> thinking() const {
    return thinks_ || thinks_not_ ? std::optional(thinks_) : std::nullopt;
  }

  std::string question() const {
    std::string text = prompt_;
    if (!is_terminal(STDIN_FILENO)) {
      const std::string piped = read_standard_input(kMaxPromptBytes);
      if (!piped.empty()) text = text.empty() ? piped : text + "\n\n" + piped;
    }
    if (text.empty()) fail(ErrorKind::usage, "run: there is no prompt: give one, or pipe it in");
    return text;
  }

  OnText on_text() const { return is_json_ ? OnText() : print_at_once; }

  // Without a chat template.
  void continue_text(Engine& engine, const LoadedModel& loaded, const std::optional<GrammarSource>& grammar) {
    request_.prompt =
        tokens_ ? parse_ids(*tokens_, "--tokens")
                : loaded.need_tokenizer().encode(question(), {.add_special = true, .parse_special = true});
    const Tokenizer* tokenizer = loaded.tokenizer.get();
    if (grammar)
      request_.grammar =
          GrammarCache(loaded.need_tokenizer(), static_cast<int32_t>(loaded.model->shape().n_vocab))
              .get(*grammar);
    const InterruptGuard guard;
    const Answer answer =
        answer_of(engine, request_, {.tokenizer = tokenizer, .stops = stops_, .on_text = on_text()});
    if (is_json_) {
      fmt::print("{}\n", report(engine, answer).dump());
    } else {
      fmt::print("{}\n", tokenizer == nullptr ? fmt::format("{}", fmt::join(answer.token_ids, ",")) : "");
      tell_if_cut(answer, "");
    }
    end_as_interrupted();
  }

  void answer_once(const Engine& engine, Conversation& conversation) {
    const std::string text = question();
    const InterruptGuard guard;
    const Answer answer = conversation.ask(text, on_text());
    if (is_json_) {
      fmt::print("{}\n", report(engine, answer, conversation).dump());
    } else {
      if (!answer.text.empty() || conversation.open_calls().empty()) fmt::print("\n");
      for (const Conversation::Call& call : conversation.open_calls()) fmt::print("{}\n", shown(call));
      // Between the sign of a call and its name nothing is known of it.
      const bool may_be_in_call = tool_options_.is_given() && (answer.text.empty() || !answer.calls.empty());
      tell_if_cut(answer, may_be_in_call ? " within a call, which is not shown" : "");
    }
    end_as_interrupted();
  }

  void tell_if_cut(const Answer& answer, std::string_view where) const {
    if (answer.finish_reason != FinishReason::length) return;
    const int64_t n = answer.usage.n_generated;
    std::fflush(stdout);
    log_warning("the answer was cut after {} tokens{}: allow more with {}", n, where,
                n == max_tokens_ ? "--max-tokens" : "--ctx");
  }

  // What was there is printed; now Ctrl-C does what it always does, so that a loop in a shell ends too.
  static void end_as_interrupted() {
    if (!InterruptGuard::is_interrupted()) return;
    std::fflush(stdout);
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }

  // 0.7 and not the double that is nearest to its float.
  static double shortest(float value) { return std::stod(fmt::format("{}", value)); }

  Json report(const Engine& engine, const Answer& answer) const {
    Json out;
    out["text"] = answer.text;
    out["token_ids"] = Json::Array(answer.token_ids.begin(), answer.token_ids.end());
    out["finish_reason"] = name_of(answer.finish_reason);
    out["usage"]["prompt_tokens"] = answer.usage.n_prompt;
    out["usage"]["cached_tokens"] = answer.usage.n_cached;
    out["usage"]["completion_tokens"] = answer.usage.n_generated;
    const double decode_s = answer.total_s - answer.first_token_s;
    const auto n_decoded = static_cast<double>(answer.usage.n_generated - 1);
    out["timings"]["first_token_s"] = answer.first_token_s;
    out["timings"]["total_s"] = answer.total_s;
    out["timings"]["decode_tokens_per_s"] = n_decoded > 0 && decode_s > 0 ? n_decoded / decode_s : 0.0;
    out["memory"]["weights_bytes"] = engine.memory().weights_bytes;
    out["memory"]["program_bytes"] = engine.memory().program_bytes;
    out["memory"]["kv_bytes"] = engine.memory().kv_bytes;
    out["memory"]["state_bytes"] = engine.memory().state_bytes;
    out["memory"]["arena_bytes"] = engine.memory().arena_bytes;
    out["memory"]["tier_bytes"] = engine.memory().tier_bytes;
    if (const MemoryPlan::Part& part = engine.memory().on_device; part.arena_bytes > 0) {
      Json& device = out["memory"]["on_device"];
      device["weights_bytes"] = part.weights_bytes;
      device["kv_bytes"] = part.kv_bytes;
      device["state_bytes"] = part.state_bytes;
      device["arena_bytes"] = part.arena_bytes;
    }
    const Sampling& sampling = request_.sampling;
    out["sampling"]["temperature"] = shortest(sampling.temperature);
    out["sampling"]["top_k"] = sampling.top_k;
    out["sampling"]["top_p"] = shortest(sampling.top_p);
    out["sampling"]["min_p"] = shortest(sampling.min_p);
    out["sampling"]["repetition_penalty"] = shortest(sampling.repetition_penalty);
    // Beyond 2^53 a number would lose bits in most readers.
    out["seed"] = std::to_string(request_.sampling.seed);
    return out;
  }

  Json report(const Engine& engine, const Answer& answer, const Conversation& conversation) const {
    Json out = report(engine, answer);
    if (!tool_options_.is_given()) return out;
    out["tool_calls"] = Json::Array();
    for (const Conversation::Call& call : conversation.open_calls())
      out["tool_calls"].as_array().push_back(call_of_api(call));
    if (!conversation.open_calls().empty()) out["finish_reason"] = "tool_calls";
    if (!answer.reasoning.empty()) out["reasoning_content"] = answer.reasoning;
    out["messages"] = conversation.messages_of_api();
    return out;
  }

  std::string model_, prompt_;
  std::optional<std::string> system_, tokens_;
  std::vector<std::string> stops_;
  int64_t max_tokens_ = -1, n_ctx_ = 0;
  std::optional<int32_t> max_reasoning_;
  std::optional<int32_t> n_snapshots_, snapshot_distance_;
  bool thinks_ = false, thinks_not_ = false, is_raw_ = false, ignores_end_ = false, is_json_ = false;
  SamplingOptions sampling_;
  GrammarOptions grammar_;
  ToolOptions tool_options_;
  PrefixCacheOptions prefix_cache_;
  WeightPlace weight_place_;
  ComputeOptions compute_;
  Request request_;
};

}  // namespace

std::unique_ptr<Command> make_run() { return std::make_unique<Run>(); }

}  // namespace millrace
