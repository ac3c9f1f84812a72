// quantize: a checkpoint as a GGUF file in smaller formats, with what that loses: the error of each tensor
// and, where the model can be run, how far its predictions move.
#include "checkpoint/quantize.h"

#include <algorithm>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "checkpoint/listed_checkpoint.h"
#include "cli/divergence_report.h"
#include "cli/loaded_model.h"
#include "cli/progress.h"
#include "cli/sample_loss.h"
#include "cli/source.h"
#include "cli/standard_input.h"
#include "cli/verb.h"
#include "model/families.h"

namespace millrace {
namespace {

constexpr size_t kMaxSampleBytes = size_t{64} << 20;

std::string names_of_mixtures() {
  std::string names;
  for (const Mixture& mixture : all_mixtures())
    names += fmt::format("{}{}", names.empty() ? "" : " ", mixture.name);
  return names;
}

Dtype need_format(const std::string& name, std::string_view option) {
  const auto dtype = dtype_of_name(name);
  if (dtype && *dtype != Dtype::i32 && format_of(*dtype).ggml_type != kNoGgmlType) return *dtype;
  fail(ErrorKind::usage, "{} {} is no format of weights; known are those of TYPE without _S, _M and _L",
       option, printable(name));
}

// "REGEX=TYPE"
std::pair<std::regex, Dtype> override_of(const std::string& text) {
  const size_t at = text.rfind('=');
  if (at == std::string::npos || at == 0)
    fail(ErrorKind::usage, "--tensor-type {} is not REGEX=TYPE", printable(text));
  const Dtype dtype = need_format(text.substr(at + 1), "--tensor-type");
  try {
    return {std::regex(text.substr(0, at)), dtype};
  } catch (const std::regex_error&) {
    fail(ErrorKind::usage, "--tensor-type {} holds no regular expression", printable(text));
  }
}

// The source with the formats of the plan, so that a family can say whether it would run.
class PlannedCheckpoint final : public ListedCheckpoint {
 public:
  explicit PlannedCheckpoint(const QuantizePlan& plan)
      : ListedCheckpoint(plan.tensors()), source_(plan.source) {}
  const Metadata& metadata() const override { return source_.metadata(); }

 private:
  const Checkpoint& source_;
};

// Why the model cannot be run; nothing where it can.
std::optional<std::string> obstacle_of(const Checkpoint& checkpoint) {
  try {
    load_model(checkpoint);
  } catch (const Error& error) {
    return error.what();
  }
  return std::nullopt;
}

// What is to be written, and what came of it.
struct Quantized {
  QuantizePlan plan;
  std::vector<RecodeError> errors;  // empty after a dry run
  std::optional<Divergence> divergence;

  int64_t n_bytes() const {
    int64_t sum = 0;
    for (const NamedTensor& named : plan.tensors()) sum += named.tensor.n_bytes();
    return sum;
  }
  double bits_per_weight() const {
    int64_t n_elems = 0;
    for (const NamedTensor& named : plan.source.tensors()) n_elems += named.tensor.n_elems();
    return n_elems == 0 ? 0.0 : 8.0 * static_cast<double>(n_bytes()) / static_cast<double>(n_elems);
  }
  size_t n_replaced() const {
    return static_cast<size_t>(std::ranges::count_if(
        plan.choices, [](const FormatChoice& each) { return each.wanted.has_value(); }));
  }
  RecodeError error() const {
    RecodeError sum;
    for (const RecodeError& each : errors) sum.add(each);
    return sum;
  }
};

std::string_view name_of(Dtype dtype) { return format_of(dtype).name; }

void print_tensor(const Quantized& result, size_t i) {
  const auto& [name, tensor] = result.plan.source.tensors()[i];
  const FormatChoice& choice = result.plan.choices[i];
  if (!result.plan.is_recoded(i)) {
    fmt::print("{:<40} {:<28} kept\n", printable(name), shape_text(tensor));
    return;
  }
  fmt::print("{:<40} {:<28} -> {:<7}", printable(name), shape_text(tensor), name_of(choice.dtype));
  if (!result.errors.empty()) fmt::print(" error {:.5f}", result.errors[i].relative_rmse());
  if (choice.wanted)
    fmt::print("  instead of {}: {} columns are no whole blocks of {}", name_of(*choice.wanted),
               tensor.n_cols(), format_of(*choice.wanted).block_elems);
  fmt::print("\n");
}

void print_text(const Quantized& result) {
  for (size_t i = 0; i < result.plan.choices.size(); ++i) print_tensor(result, i);
  fmt::print("\n{} tensors, {} -> {} bytes, {:.2f} bits a weight", result.plan.choices.size(),
             result.plan.source.n_bytes(), result.n_bytes(), result.bits_per_weight());
  if (!result.errors.empty()) fmt::print(", relative RMS error {:.5f}", result.error().relative_rmse());
  fmt::print("\n");
  if (const size_t n = result.n_replaced(); n > 0)
    fmt::print("{} tensors got another format than the mixture says, because of their shapes\n", n);
  if (result.divergence) print_divergence(*result.divergence);
}

Json json_of_tensor(const Quantized& result, size_t i) {
  const auto& [name, tensor] = result.plan.source.tensors()[i];
  const FormatChoice& choice = result.plan.choices[i];
  Json out;
  out["name"] = valid_utf8(name);
  out["from"] = name_of(tensor.dtype);
  out["to"] = name_of(choice.dtype);
  if (choice.wanted) out["instead_of"] = name_of(*choice.wanted);
  if (!result.errors.empty() && result.plan.is_recoded(i)) {
    out["relative_rmse"] = result.errors[i].relative_rmse();
    out["max_error"] = result.errors[i].largest;
    out["has_importance"] = !result.plan.importance_of(i).empty();
  }
  return out;
}

void print_json(const Quantized& result, const Mixture& mixture) {
  Json out;
  out["type"] = mixture.name;
  out["n_bytes_before"] = result.plan.source.n_bytes();
  out["n_bytes"] = result.n_bytes();
  out["bits_per_weight"] = result.bits_per_weight();
  out["n_replaced"] = result.n_replaced();
  if (!result.errors.empty()) out["relative_rmse"] = result.error().relative_rmse();
  if (result.divergence) out["divergence"] = json_of(*result.divergence);
  Json::Array tensors;
  for (size_t i = 0; i < result.plan.choices.size(); ++i) tensors.push_back(json_of_tensor(result, i));
  out["tensors"] = std::move(tensors);
  fmt::print("{}\n", out.dump());
}

class Quantize final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("SRC", "A .gguf file (of a split model, the first) or a Hugging Face folder", source_,
                    Args::Presence::needed);
    args.positional("DST", "The .gguf file to write", destination_, Args::Presence::needed);
    args.positional("TYPE", "One of " + names_of_mixtures(), type_, Args::Presence::needed);
    args.option("--tensor-type", "REGEX=TYPE: the format of tensors whose names match; repeatable",
                overrides_);
    args.option("--output-type", "Format of output.weight", output_type_);
    args.option("--token-embedding-type", "Format of token_embd.weight", token_embedding_type_);
    args.flag("--pure", "One format for all matrices, no mixture", is_pure_);
    args.option("--imatrix", "An importance matrix (GGUF, or the older .dat)", imatrix_);
    args.flag("--allow-requantize", "Quantise what is quantised already, which loses twice", may_requantize_);
    args.flag("--dry-run", "Show the formats and sizes, write nothing", is_dry_run_);
    args.option("--sample", "A text to compare the predictions of SRC and DST on; else a short one", sample_);
    args.option("--sample-tokens", "Token ids instead of a text: 1,2,3", sample_tokens_);
    args.flag("--no-sample", "Do not compare predictions", has_no_sample_);
    args.flag("--json", "Print one JSON object", is_json_);
    compute_.declare(args);
  }

  void run() override {
    const Mixture& mixture = need_mixture();
    Source source(source_, "config.json", SourceTexts::all);
    std::optional<Importance> importance;
    if (!imatrix_.empty()) importance.emplace(imatrix_);
    Quantized result{.plan = plan_of(source, mixture, importance ? &*importance : nullptr),
                     .errors = {},
                     .divergence = std::nullopt};
    check_plan(result.plan, mixture, may_requantize_ ? Requantize::yes : Requantize::no);
    const bool is_runnable = check_runs(source.checkpoint(), result.plan);
    if (!is_dry_run_) {
      result.errors = write(source, result.plan, mixture);
      if (is_runnable && !has_no_sample_) result.divergence = compare();
    }
    if (is_json_) {
      print_json(result, mixture);
    } else {
      print_text(result);
    }
  }

 private:
  const Mixture& need_mixture() const {
    if (const Mixture* mixture = find_mixture(type_)) return *mixture;
    fail(ErrorKind::usage, "TYPE {} is not known; known: {}", printable(type_), names_of_mixtures());
  }

  QuantizePlan plan_of(const Source& source, const Mixture& mixture, const Importance* importance) const {
    MixtureOptions options{.mixture = &mixture};
    if (!output_type_.empty()) options.output = need_format(output_type_, "--output-type");
    if (!token_embedding_type_.empty())
      options.token_embedding = need_format(token_embedding_type_, "--token-embedding-type");
    for (const std::string& text : overrides_) options.by_name.push_back(override_of(text));
    options.is_pure = is_pure_;
    options.has_importance = importance != nullptr;
    const auto architecture = source.metadata().get_or<std::string_view>("general.architecture", "");
    if (const Family* family = find_family(architecture)) {
      options.weight_rules = family->weight_rules;
      options.shares_values_at_80_layers =
          std::ranges::find(family->shared_values_at_80_layers, architecture) !=
          family->shared_values_at_80_layers.end();
    }
    return {.source = source.checkpoint(),
            .choices = choose_formats(source.checkpoint(), options),
            .importance = importance};
  }

  // A model that Millrace runs must still run; others are written as they are asked for, and that is said.
  bool check_runs(const Checkpoint& source, const QuantizePlan& plan) const {
    if (const auto obstacle = obstacle_of(source)) {
      log_warning("the source cannot be run here, so the result is not checked: {}", *obstacle);
      return false;
    }
    if (const auto obstacle = obstacle_of(PlannedCheckpoint(plan)))
      fail(ErrorKind::usage, "the result could not be run: {}", *obstacle);
    return true;
  }

  std::vector<RecodeError> write(Source& source, const QuantizePlan& plan, const Mixture& mixture) const {
    Metadata metadata = source.metadata();
    metadata.add("general.quantization_version", int64_t{2});
    metadata.add("general.file_type", mixture.file_type);
    if (plan.importance != nullptr) {
      metadata.add("quantize.imatrix.file", std::string_view(imatrix_));
      metadata.add("quantize.imatrix.dataset", std::string_view(plan.importance->dataset()));
      metadata.add("quantize.imatrix.entries_count", static_cast<int64_t>(plan.importance->n_weights()));
      metadata.add("quantize.imatrix.chunks_count", plan.importance->n_chunks());
    }
    ProgressBar progress("quantizing", 1000);
    return write_quantized(destination_, plan,
                           {.metadata = metadata,
                            .read = [&](size_t i) { return source.read(i); },
                            .n_threads = compute_.n_threads()},
                           [&](int64_t n_done, int64_t n_total) {
                             progress.advance(n_total == 0 ? 1000 : 1000 * n_done / n_total);
                           });
  }

  std::optional<Divergence> compare() const {
    LoadedModel before = load(source_, compute_, WithTokenizer::yes, Gives::either);
    if (before.model->shape().gives_embeddings()) {
      log_info("the model gives embeddings: how far they move is not measured");
      return std::nullopt;
    }
    LoadedModel after = load(destination_, compute_, WithTokenizer::no);
    const std::vector<int32_t> tokens = sample_of(before);
    if (tokens.size() >= 2) return divergence_on(tokens, before, after, compute_);
    log_warning("the model has no tokenizer: give --sample-tokens to see how far its predictions move");
    return std::nullopt;
  }

  std::vector<int32_t> sample_of(const LoadedModel& model) const {
    if (!sample_tokens_.empty()) return parse_ids(sample_tokens_, "--sample-tokens");
    if (!sample_.empty())
      return model.need_tokenizer().encode(read_file(sample_, kMaxSampleBytes, ErrorKind::usage), {});
    if (model.tokenizer == nullptr) return {};
    return model.tokenizer->encode(kSampleText, {});
  }

  std::string source_, destination_, type_, output_type_, token_embedding_type_, imatrix_, sample_,
      sample_tokens_;
  std::vector<std::string> overrides_;
  bool is_pure_ = false, may_requantize_ = false, is_dry_run_ = false, has_no_sample_ = false,
       is_json_ = false;
  ComputeOptions compute_;
};

}  // namespace

std::unique_ptr<Command> make_quantize() { return std::make_unique<Quantize>(); }

}  // namespace millrace
