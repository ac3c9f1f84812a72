// run: a conversation in the terminal, or one answer.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "base/json.h"
#include "cli/answer.h"
#include "cli/chat.h"
#include "cli/grammar_options.h"
#include "cli/loaded_model.h"
#include "cli/prefix_cache_options.h"
#include "cli/sampling_options.h"
#include "cli/standard_input.h"
#include "cli/verb.h"
#include "cli/weight_pages.h"
#include "engine/reasoning_limit.h"
#include "grammar/answer_grammar.h"
#include "text/chat_tools.h"

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
    weight_pages_.declare(args);
    sampling_.declare(args);
    grammar_.declare(args);
    compute_.declare(args);
  }

  void run() override {
    refuse_conflicts();
    const std::optional<GrammarSource> grammar = grammar_.source();
    LoadedModel loaded = load(model_, compute_, WithTokenizer::yes);
    if (!stops_.empty() && loaded.tokenizer == nullptr)
      fail(ErrorKind::usage, "--stop needs a text, and the model has no tokenizer to make one");
    Engine engine(*loaded.model, *loaded.backend, engine_options(loaded));
    const std::jthread moving = weight_pages_.move(loaded);
    request_.sampling = sampling_.sampling(loaded.checkpoint->metadata());
    request_.max_tokens = max_tokens_;
    request_.ignore_end = ignores_end_;
    request_.end_tokens = loaded.end_tokens;
    if (grammar || max_reasoning_) hold_answer(loaded, grammar);
    const bool is_chat = prompt_.empty() && !tokens_ && !is_json_ && is_terminal(STDIN_FILENO);
    if (is_chat && !is_raw_) {
      chat(engine, loaded);
    } else {
      answer_once(engine, loaded);
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

  // What the answer must be, behind the reasoning of a model that reasons, and how much of that there may be.
  void hold_answer(const LoadedModel& loaded, const std::optional<GrammarSource>& source) {
    const Tokenizer& tokenizer = loaded.need_tokenizer();
    GrammarCache grammars(tokenizer, static_cast<int32_t>(loaded.model->shape().n_vocab));
    if (is_raw_ || tokens_) {
      request_.grammar = grammars.get(*source);
      return;
    }
    const ChatPrompt chat = chat_prompt_of(loaded, thinking());
    const ChatTools tools(chat, *loaded.template_source, tokenizer);
    const ChatTools::Reasoning reasoning =
        tools.reasoning_after(tokenizer.decode(chat.encode({message("user", "?")}), true));
    if (max_reasoning_ && !tools.has_reasoning())
      fail(ErrorKind::usage, "--thinking-budget: the model's chat template knows no reasoning");
    if (max_reasoning_)
      request_.reasoning = std::make_shared<const ReasoningLimit>(
          tools.syntax(), tokenizer,
          OutputParser::Options{.begins_in_reasoning = reasoning.has_begun, .is_held = source.has_value()},
          *max_reasoning_);
    if (!source) return;
    const Json::Array none;
    const AnswerForm form{.syntax = tools.syntax(),
                          .tools = none,
                          .begins_in_reasoning = reasoning.has_begun,
                          .may_reason = reasoning.may_begin,
                          .content = &*source,
                          .end_tokens = request_.end_tokens};
    request_.grammar = grammars.get(key_of(form), [&] { return answer_rules(form, tokenizer); });
  }

  void chat(Engine& engine, const LoadedModel& loaded) {
    Chat conversation(engine, loaded, request_, stops_, thinking());
    if (system_) conversation.set_system(*system_);
    conversation.run();
  }

  std::vector<int32_t> prompt_ids(const LoadedModel& loaded) const {
    if (tokens_) return parse_ids(*tokens_, "--tokens");
    std::string text = prompt_;
    if (!is_terminal(STDIN_FILENO)) {
      const std::string piped = read_standard_input(kMaxPromptBytes);
      if (!piped.empty()) text = text.empty() ? piped : text + "\n\n" + piped;
    }
    if (text.empty()) fail(ErrorKind::usage, "run: there is no prompt: give one, or pipe it in");
    if (is_raw_) return loaded.need_tokenizer().encode(text, {.add_special = true, .parse_special = true});
    Json::Array messages;
    if (system_) messages.push_back(message("system", *system_));
    messages.push_back(message("user", text));
    return chat_prompt_of(loaded, thinking()).encode(messages);
  }

  void answer_once(Engine& engine, const LoadedModel& loaded) {
    request_.prompt = prompt_ids(loaded);
    if (print_answer(engine, loaded) != FinishReason::cancelled) return;
    // What was there is printed; now Ctrl-C does what it always does, so that a loop in a shell ends too.
    std::fflush(stdout);
    std::raise(SIGINT);
  }

  FinishReason print_answer(Engine& engine, const LoadedModel& loaded) const {
    const InterruptGuard guard;
    const OnText print = [](std::string_view piece) {
      fmt::print("{}", piece);
      std::fflush(stdout);
    };
    const Answer answer =
        answer_of(engine, request_, loaded.tokenizer.get(), stops_, is_json_ ? OnText() : print);
    if (is_json_) {
      fmt::print("{}\n", report(engine, answer).dump());
    } else if (loaded.tokenizer == nullptr) {
      fmt::print("{}\n", fmt::join(answer.token_ids, ","));
    } else {
      fmt::print("\n");
    }
    return answer.finish_reason;
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

  std::string model_, prompt_;
  std::optional<std::string> system_, tokens_;
  std::vector<std::string> stops_;
  int64_t max_tokens_ = -1, n_ctx_ = 0;
  std::optional<int32_t> max_reasoning_;
  std::optional<int32_t> n_snapshots_, snapshot_distance_;
  bool thinks_ = false, thinks_not_ = false, is_raw_ = false, ignores_end_ = false, is_json_ = false;
  SamplingOptions sampling_;
  GrammarOptions grammar_;
  PrefixCacheOptions prefix_cache_;
  WeightPages weight_pages_;
  ComputeOptions compute_;
  Request request_;
};

}  // namespace

std::unique_ptr<Command> make_run() { return std::make_unique<Run>(); }

}  // namespace millrace
