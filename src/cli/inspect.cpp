// inspect: what is in a model file.
#include <unistd.h>

#include <map>

#include "base/json.h"
#include "checkpoint/check.h"
#include "checkpoint/importance.h"
#include "cli/loaded_model.h"
#include "cli/progress.h"
#include "cli/standard_input.h"
#include "cli/verb.h"
#include "model/hf/generation_config.h"

namespace millrace {
namespace {

constexpr size_t kShownItems = 8;      // of a long array
constexpr size_t kItemsAtOnce = 4096;  // a vocabulary as one tree of JSON would be many times its size

template <class T>
constexpr bool kIsArray = false;
template <class T>
constexpr bool kIsArray<std::vector<T>> = true;

Json json_of_item(auto item) {
  if constexpr (std::is_same_v<decltype(item), std::string_view>) {
    return valid_utf8(item);
  } else {
    return item;
  }
}

// A value; of an array, the items [begin, end).
Json json_of(const MetaValue& value, size_t begin, size_t end) {
  return std::visit(
      [begin, end]<class T>(const T& held) -> Json {
        if constexpr (kIsArray<T>) {
          Json::Array items;
          for (size_t i = begin; i < std::min(held.size(), end); ++i) {
            items.push_back(json_of_item<typename T::value_type>(held[i]));
          }
          return items;
        } else {
          return json_of_item(held);
        }
      },
      value);
}

size_t n_items(const MetaValue& value) {
  return std::visit(
      []<class T>(const T& held) -> size_t {
        if constexpr (kIsArray<T>) return held.size();
        return 0;
      },
      value);
}

Json shape_of(const Tensor& tensor) {
  Json::Array shape;
  for (int i = 0; i < tensor.n_dims; ++i) shape.emplace_back(tensor.dim(i));
  return shape;
}

struct Weights {
  struct Sum {
    int64_t n_tensors = 0;
    int64_t n_bytes = 0;
  };
  std::map<std::string_view, Sum> by_format;
  int64_t n_elems = 0;
};

Weights weights_of(const Checkpoint& checkpoint) {
  Weights weights;
  for (const NamedTensor& named : checkpoint.tensors()) {
    Weights::Sum& sum = weights.by_format[format_of(named.tensor.dtype).name];
    ++sum.n_tensors;
    sum.n_bytes += named.tensor.n_bytes();
    weights.n_elems += named.tensor.n_elems();
  }
  return weights;
}

std::string short_text(const MetaValue& value) {
  std::string text = printable(json_of(value, 0, kShownItems).dump(), 200);
  if (n_items(value) > kShownItems) text += fmt::format(" ... {} in all", n_items(value));
  return text;
}

void print_entry(std::string_view name, std::string_view text) { fmt::print("{:<44} {}\n", name, text); }

// The lines that say what the model is; the rest of the metadata follows them.
void print_summary(const Checkpoint& checkpoint) {
  const Metadata& metadata = checkpoint.metadata();
  const auto print_key = [&metadata](std::string_view name, std::string_view key) {
    if (const MetaValue* value = metadata.find(key)) print_entry(name, short_text(*value));
  };
  print_key("name", "general.name");
  print_key("licence", "general.license");
  print_key("architecture", "general.architecture");
  const auto* arch = metadata.find("general.architecture");
  if (arch != nullptr && std::holds_alternative<std::string_view>(*arch)) {
    print_key("context", fmt::format("{}.context_length", std::get<std::string_view>(*arch)));
  }
  const Weights weights = weights_of(checkpoint);
  print_entry("parameters",
              fmt::format("{:.1f} M ({})", static_cast<double>(weights.n_elems) / 1e6, weights.n_elems));
  print_entry("weights",
              fmt::format("{} bytes in {} tensors", checkpoint.n_bytes(), checkpoint.tensors().size()));
  for (const auto& [format, sum] : weights.by_format) {
    print_entry(fmt::format("  {}", format), fmt::format("{} bytes in {}", sum.n_bytes, sum.n_tensors));
  }
}

void print_metadata(const Metadata& metadata) {
  for (const auto& [key, value] : metadata.entries()) print_entry(printable(key), short_text(value));
}

void print_tensors(std::span<const NamedTensor> tensors) {
  for (const auto& [name, tensor] : tensors) {
    fmt::print("{:<44} {:<28} {:>14} bytes\n", printable(name), shape_text(tensor), tensor.n_bytes());
  }
}

Json json_of(const NamedTensor& named) {
  Json out;
  out["name"] = valid_utf8(named.name);
  out["shape"] = shape_of(named.tensor);
  out["type"] = format_of(named.tensor.dtype).name;
  out["n_bytes"] = named.tensor.n_bytes();
  return out;
}

void print_json_of(const MetaValue& value) {
  if (n_items(value) <= kItemsAtOnce) {
    fmt::print("{}", json_of(value, 0, kItemsAtOnce).dump());
    return;
  }
  fmt::print("[");
  for (size_t i = 0; i < n_items(value); i += kItemsAtOnce) {
    const std::string items = json_of(value, i, i + kItemsAtOnce).dump();
    fmt::print("{}{}", i == 0 ? "" : ",", std::string_view(items).substr(1, items.size() - 2));
  }
  fmt::print("]");
}

void print_json_of(const Metadata& metadata) {
  const char* separator = "";
  for (const auto& [key, value] : metadata.entries()) {
    fmt::print("{}\n    {}: ", separator, Json(valid_utf8(key)).dump());
    print_json_of(value);
    separator = ",";
  }
}

void print_json_of(std::span<const NamedTensor> tensors) {
  const char* separator = "";
  for (const NamedTensor& named : tensors) {
    fmt::print("{}\n    {}", separator, json_of(named).dump());
    separator = ",";
  }
}

Json json_of(const Weights& weights) {
  Json out = Json::Object();
  for (const auto& [format, sum] : weights.by_format) {
    out[format]["n_tensors"] = sum.n_tensors;
    out[format]["n_bytes"] = sum.n_bytes;
  }
  return out;
}

Json json_of(const HfContents& contents) {
  Json out;
  out["quantisation"] = contents.quantisation;
  out["n_files"] = contents.n_files;
  out["tower"]["n_tensors"] = contents.n_tower_tensors;
  out["tower"]["n_bytes"] = contents.tower_bytes;
  return out;
}

void print_contents(const HfContents& contents) {
  print_entry("quantised by", contents.quantisation.empty() ? "nothing" : printable(contents.quantisation));
  print_entry("files of weights", fmt::format("{}", contents.n_files));
  if (contents.n_tower_tensors == 0) return;
  print_entry("towers, left out",
              fmt::format("{} bytes in {} tensors", contents.tower_bytes, contents.n_tower_tensors));
}

// All that loading looks at: metadata, names, shapes and formats of the weights, tokenizer, chat template.
void check_loads(const std::string& path, const Checkpoint& checkpoint) {
  const Metadata& metadata = checkpoint.metadata();
  if (metadata.get_or<std::string_view>("general.type", "model") == "imatrix") {
    Importance{path};
  } else if (checkpoint.n_bytes() > 0) {
    const LoadedModel loaded = load(path, ComputeOptions{.threads = 1}, WithTokenizer::yes, Gives::either);
    if (loaded.template_source) ChatTemplate{*loaded.template_source};
    if (std::filesystem::is_directory(path)) generation_end_tokens(path);
  } else {  // a vocabulary
    if (metadata.find("tokenizer.ggml.model") != nullptr) load_tokenizer(metadata);
    if (const auto source = metadata.get<std::string_view>("tokenizer.chat_template")) ChatTemplate{*source};
  }
}

// The same, and every block of the weights.
void check(const std::string& path, const Checkpoint& checkpoint) {
  check_loads(path, checkpoint);
  ProgressBar progress("checking", checkpoint.n_bytes());
  check_weights(checkpoint, [&](int64_t n_done, int64_t) { progress.advance(n_done); });
}

class Inspect final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("FILE", "A .gguf file (of a split model, the first) or a Hugging Face folder", file_,
                    Args::Presence::needed);
    args.flag("--check", "Validate all that loading would, and every block of the weights", checks_);
    args.flag("--json", "Print one JSON object with all metadata and tensors", is_json_);
  }

  void run() override {
    const std::unique_ptr<Checkpoint> checkpoint = open();
    if (checks_) check(file_, *checkpoint);
    if (is_json_) {
      print_json(*checkpoint);
    } else {
      print_text(*checkpoint);
    }
  }

 private:
  // Of a folder only what its header says, unless its weights are to be checked.
  std::unique_ptr<Checkpoint> open() {
    if (!std::filesystem::is_directory(file_)) return open_checkpoint(file_);
    std::unique_ptr<HfFolder> folder = read_hf_folder(file_);
    contents_ = folder->contents();
    if (checks_) lay_out(*folder);
    return folder;
  }

  void print_json(const Checkpoint& checkpoint) const {
    const Weights weights = weights_of(checkpoint);
    fmt::print("{{\n  \"metadata\": {{");
    print_json_of(checkpoint.metadata());
    fmt::print("\n  }},\n  \"tensors\": [");
    print_json_of(checkpoint.tensors());
    fmt::print("\n  ],\n  \"n_parameters\": {},\n  \"n_bytes\": {},\n", weights.n_elems,
               checkpoint.n_bytes());
    if (checks_) fmt::print("  \"is_sound\": true,\n");
    if (contents_) fmt::print("  \"folder\": {},\n", json_of(*contents_).dump());
    fmt::print("  \"formats\": {}\n}}\n", json_of(weights).dump());
  }

  void print_text(const Checkpoint& checkpoint) const {
    print_summary(checkpoint);
    if (contents_) print_contents(*contents_);
    fmt::print("\n");
    print_metadata(checkpoint.metadata());
    fmt::print("\n");
    print_tensors(checkpoint.tensors());
    if (checks_)
      fmt::print("\nsound: every check that loading makes passed, and every block of the weights\n");
  }

  std::string file_;
  std::optional<HfContents> contents_;  // of a folder
  bool checks_ = false, is_json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_inspect() { return std::make_unique<Inspect>(); }

}  // namespace millrace
