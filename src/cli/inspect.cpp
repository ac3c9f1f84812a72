// inspect: what is in a model file.
#include <unistd.h>

#include <map>

#include "base/json.h"
#include "checkpoint/check.h"
#include "cli/loaded_model.h"
#include "cli/progress.h"
#include "cli/standard_input.h"
#include "cli/verb.h"

namespace millrace {
namespace {

constexpr size_t kShownItems = 8;  // of a long array

Json json_of(const MetaValue& value, size_t max_items) {
  return std::visit(
      [max_items](const auto& each) -> Json {
        using T = std::decay_t<decltype(each)>;
        if constexpr (std::is_same_v<T, std::string_view>) {
          return valid_utf8(each);
        } else if constexpr (requires { each.size(); }) {
          Json::Array items;
          for (size_t i = 0; i < std::min(each.size(), max_items); ++i) {
            if constexpr (std::is_same_v<T, std::vector<std::string_view>>) {
              items.emplace_back(valid_utf8(each[i]));
            } else if constexpr (std::is_same_v<T, std::vector<bool>>) {
              items.emplace_back(bool{each[i]});
            } else {
              items.emplace_back(each[i]);
            }
          }
          return items;
        } else {
          return each;
        }
      },
      value);
}

size_t n_items(const MetaValue& value) {
  return std::visit(
      [](const auto& each) -> size_t {
        if constexpr (requires { each.size(); } &&
                      !std::is_same_v<std::decay_t<decltype(each)>, std::string_view>)
          return each.size();
        return 0;
      },
      value);
}

Json shape_of(const Tensor& tensor) {
  Json::Array shape;
  for (int i = 0; i < tensor.n_dims; ++i) shape.emplace_back(tensor.dim(i));
  return shape;
}

class Inspect final : public Command {
 public:
  void declare(Args& args) override {
    args.positional("FILE", "A .gguf file (of a split model, the first)", file_, Args::Presence::needed);
    args.flag("--check", "Validate all that loading would, and every block of the weights", checks_);
    args.flag("--json", "Print one JSON object with all metadata and tensors", is_json_);
  }

  void run() override {
    const std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(file_);
    if (checks_) check(*checkpoint);
    if (is_json_) {
      print_json(*checkpoint);
    } else {
      print_text(*checkpoint);
    }
  }

 private:
  static void check(const Checkpoint& checkpoint) {
    if (checkpoint.n_bytes() > 0) load_model(checkpoint);
    ProgressBar progress("checking", checkpoint.n_bytes());
    check_weights(checkpoint, [&](int64_t n_done, int64_t) { progress.advance(n_done); });
    if (const auto* kind = checkpoint.metadata().find("tokenizer.ggml.model"); kind != nullptr)
      load_tokenizer(checkpoint.metadata());
    if (const auto source = checkpoint.metadata().get<std::string_view>("tokenizer.chat_template"))
      ChatTemplate{*source};
  }

  void print_json(const Checkpoint& checkpoint) const {
    Json out;
    Json::Object metadata;
    for (const auto& [key, value] : checkpoint.metadata().entries())
      metadata.emplace_back(valid_utf8(key), json_of(value, SIZE_MAX));
    out["metadata"] = std::move(metadata);
    Json::Array tensors;
    for (const NamedTensor& named : checkpoint.tensors()) {
      Json tensor;
      tensor["name"] = valid_utf8(named.name);
      tensor["shape"] = shape_of(named.tensor);
      tensor["type"] = format_of(named.tensor.dtype).name;
      tensor["n_bytes"] = named.tensor.n_bytes();
      tensors.push_back(std::move(tensor));
    }
    out["tensors"] = std::move(tensors);
    out["n_bytes"] = checkpoint.n_bytes();
    if (checks_) out["is_sound"] = true;
    fmt::print("{}\n", out.dump(2));
  }

  void print_text(const Checkpoint& checkpoint) const {
    for (const auto& [key, value] : checkpoint.metadata().entries()) {
      std::string text = printable(json_of(value, kShownItems).dump(), 200);
      if (n_items(value) > kShownItems) text += fmt::format(" ... {} in all", n_items(value));
      fmt::print("{:<44} {}\n", printable(key), text);
    }
    std::map<std::string_view, std::pair<int64_t, int64_t>> by_format;  // tensors, bytes
    int64_t n_parameters = 0;
    fmt::print("\n");
    for (const NamedTensor& named : checkpoint.tensors()) {
      fmt::print("{:<44} {:<28} {:>14} bytes\n", printable(named.name), shape_text(named.tensor),
                 named.tensor.n_bytes());
      auto& [n_tensors, n_bytes] = by_format[format_of(named.tensor.dtype).name];
      ++n_tensors;
      n_bytes += named.tensor.n_bytes();
      n_parameters += named.tensor.n_elems();
    }
    fmt::print("\n{} tensors, {} parameters, {} bytes:", checkpoint.tensors().size(), n_parameters,
               checkpoint.n_bytes());
    for (const auto& [name, sum] : by_format)
      fmt::print(" {} {} ({:.1f} MiB)", sum.first, name, static_cast<double>(sum.second) / (1 << 20));
    fmt::print(
        "\n{}",
        checks_ ? "the file is sound: every check that loading makes passed, and every block of the weights\n"
                : "");
  }

  std::string file_;
  bool checks_ = false, is_json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_inspect() { return std::make_unique<Inspect>(); }

}  // namespace millrace
