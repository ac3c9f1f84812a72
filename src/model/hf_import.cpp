#include "model/hf_import.h"

#include <algorithm>
#include <cstring>

#include "base/file.h"
#include "base/json.h"
#include "base/nearest.h"
#include "checkpoint/named_list.h"
#include "checkpoint/safetensors.h"
#include "model/families.h"
#include "model/hf/keys.h"
#include "model/hf/tensors.h"
#include "tensor/buffer.h"

namespace millrace {
namespace {

constexpr size_t kMaxConfigBytes = size_t{16} << 20;

const HfModelClass& class_of(std::string_view model_type) {
  std::vector<std::string_view> known;
  for (const Family& family : all_families()) {
    for (const HfModelClass& each : family.hf_classes) {
      if (each.model_type == model_type) return each;
      known.push_back(each.model_type);
    }
  }
  fail(ErrorKind::bad_model, "the model_type {} is not known; the nearest known one is {}",
       printable(model_type), nearest_name(model_type, known));
}

// Weights as they lie in the files, of the types that can be used as they are.
Tensor tensor_of(const SafetensorsTensor& from) {
  const auto dtype = dtype_of_name(from.dtype);
  if (!dtype || format_of(*dtype).block_elems != 1 || *dtype == Dtype::i32) {
    fail(ErrorKind::bad_model, "tensor {} has the type {}, expected F32, F16 or BF16", printable(from.name),
         from.dtype);
  }
  if (from.shape.size() > 4) {
    fail(ErrorKind::bad_model, "tensor {} has {} dimensions, expected at most 4", printable(from.name),
         from.shape.size());
  }
  Tensor tensor;
  tensor.data = const_cast<std::byte*>(from.bytes.data());  // weights are only read
  tensor.dtype = *dtype;
  tensor.n_dims = static_cast<int>(from.shape.size());
  std::ranges::copy(from.shape, tensor.shape.begin());
  return tensor;
}

class HfFolderCheckpoint final : public HfFolder {
 public:
  HfFolderCheckpoint(const std::filesystem::path& folder, std::string_view config_name)
      : config_(Json::parse(read_file(folder / config_name, kMaxConfigBytes), config_name)),
        class_(class_of(text_config().at("model_type").as_string())),
        defaults_(Json::parse(class_.defaults, "the defaults of the class")),
        files_(folder),
        keys_(class_.architecture) {
    HfConfig config(std::string(config_name), {&text_config(), &config_, &defaults_});
    if (config.has("quantization_config")) {
      config.refuse("quantization_config", "quantised checkpoints of this kind are not implemented");
    }
    class_.write_keys(config, keys_);
    HfScope scope{.is_tied = config.flag_or("tie_word_embeddings", false),
                  .n_draft_layers = config.count_or("num_nextn_predict_layers", 0, kCountOrNone)};
    config.refuse_rest();
    map(scope);
    make([](const Tensor& tensor) { return tensor.n_dims == 1; });
  }

  const Metadata& metadata() const override { return keys_.metadata(); }
  std::span<const NamedTensor> tensors() const override { return tensors_.all(); }
  const Tensor* find(std::string_view name) const override {
    const NamedTensor* named = tensors_.find(name);
    return named == nullptr ? nullptr : &named->tensor;
  }

  void write(size_t i, std::byte* out) const override {
    const Tensor& tensor = tensors_.all()[i].tensor;
    if (tensor.data != nullptr) {
      std::memcpy(out, tensor.data, static_cast<size_t>(tensor.n_bytes()));
    } else {
      mapped_[i].write(out);
    }
  }
  void make_all() override {
    make([](const Tensor&) { return true; });
  }

 private:
  // The part of the config that speaks of the text model.
  const Json& text_config() const {
    const Json* text = config_.find("text_config");
    return text != nullptr && text->is_object() ? *text : config_;
  }

  // Settles the tensors: those of the files, then those that the config holds.
  void map(HfScope scope) {
    std::vector<NamedTensor> named;
    for (const SafetensorsTensor& each : files_.tensors()) named.push_back({each.name, tensor_of(each)});
    const std::string arch(class_.architecture);
    const auto optional = [&](const char* key) { return metadata().get_or<int64_t>(arch + key, 0); };
    scope.n_layers = metadata().need<int64_t>(arch + ".block_count");
    scope.heads = {.n_heads = metadata().need<int64_t>(arch + ".attention.head_count"),
                   .n_kv_heads = metadata().need<int64_t>(arch + ".attention.head_count_kv"),
                   .nope_dim = optional(".attention.key_length_mla") - optional(".rope.dimension_count"),
                   .v_head_dim = optional(".attention.value_length_mla")};
    mapped_ = map_tensors(named, class_, metadata(), scope);
    std::vector<NamedTensor> tensors;
    for (const HfTensor& each : mapped_) tensors.push_back({each.name(), usable(each.layout())});
    for (const HfKeys::Vector& vector : keys_.vectors()) {
      auto* elements = const_cast<float*>(vector.values.data());  // weights are only read
      tensors.push_back({vector.name, Tensor(elements, Dtype::f32, {std::ssize(vector.values)})});
    }
    tensors_ = NamedList<NamedTensor>(std::move(tensors));
  }

  // Without its elements where a file places them at an address no such number may have: then they are made.
  static Tensor usable(Tensor tensor) {
    const auto address = reinterpret_cast<uintptr_t>(tensor.data);
    if (address % static_cast<size_t>(format_of(tensor.dtype).block_bytes) != 0) tensor.data = nullptr;
    return tensor;
  }

  // Makes the tensors without elements that `is_wanted`.
  template <class Predicate>
  void make(Predicate is_wanted) {
    std::vector<NamedTensor> tensors(tensors_.all().begin(), tensors_.all().end());
    const auto is_due = [&](const Tensor& tensor) { return tensor.data == nullptr && is_wanted(tensor); };
    const auto aligned = [](int64_t n) { return (n + 63) / 64 * 64; };
    int64_t n_bytes = 0;
    for (const NamedTensor& each : tensors)
      n_bytes += is_due(each.tensor) ? aligned(each.tensor.n_bytes()) : 0;
    std::byte* at = made_.emplace_back(static_cast<size_t>(n_bytes)).data();
    for (size_t i = 0; i < tensors.size(); ++i) {
      Tensor& tensor = tensors[i].tensor;
      if (!is_due(tensor)) continue;
      mapped_[i].write(at);
      tensor.data = at;
      at += aligned(tensor.n_bytes());
    }
    tensors_ = NamedList<NamedTensor>(std::move(tensors));
  }

  Json config_;
  const HfModelClass& class_;
  Json defaults_;
  SafetensorsModel files_;
  HfKeys keys_;
  std::vector<HfTensor> mapped_;  // tensors()[i] is made from mapped_[i]
  NamedList<NamedTensor> tensors_;
  std::vector<Buffer> made_;
};

}  // namespace

std::unique_ptr<HfFolder> read_hf_folder(const std::filesystem::path& folder, std::string_view config) {
  return std::make_unique<HfFolderCheckpoint>(folder, config);
}

std::unique_ptr<Checkpoint> open_hf_directory(const std::filesystem::path& folder, std::string_view config) {
  std::unique_ptr<HfFolder> opened = read_hf_folder(folder, config);
  opened->make_all();
  return opened;
}

}  // namespace millrace
