#include "model/hf_import.h"

#include <algorithm>

#include "base/file.h"
#include "base/json.h"
#include "base/nearest.h"
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

class HfCheckpoint final : public Checkpoint {
 public:
  HfCheckpoint(const std::filesystem::path& directory, std::string_view config_name)
      : config_(Json::parse(read_file(directory / config_name, kMaxConfigBytes), config_name)),
        class_(class_of(text_config().at("model_type").as_string())),
        defaults_(Json::parse(class_.defaults, "the defaults of the class")),
        files_(directory),
        keys_(class_.architecture) {
    HfConfig config(std::string(config_name), {&text_config(), &config_, &defaults_});
    class_.write_keys(config, keys_);
    const bool is_tied = config.flag_or("tie_word_embeddings", false);
    config.refuse_rest();
    add_tensors(is_tied);
    for (const HfKeys::Vector& vector : keys_.vectors()) {
      auto* elements = const_cast<float*>(vector.values.data());  // weights are only read
      tensors_.push_back({vector.name, Tensor(elements, Dtype::f32, {std::ssize(vector.values)})});
    }
  }

  const Metadata& metadata() const override { return const_cast<HfKeys&>(keys_).metadata(); }
  std::span<const NamedTensor> tensors() const override { return tensors_; }
  const Tensor* find(std::string_view name) const override {
    const auto at = std::ranges::find(tensors_, name, &NamedTensor::name);
    return at == tensors_.end() ? nullptr : &at->tensor;
  }

 private:
  // The part of the config that speaks of the text model.
  const Json& text_config() const {
    const Json* text = config_.find("text_config");
    return text != nullptr && text->is_object() ? *text : config_;
  }

  void add_tensors(bool is_tied) {
    std::vector<NamedTensor> named;
    for (const SafetensorsTensor& each : files_.tensors()) named.push_back({each.name, tensor_of(each)});
    const Metadata& metadata = keys_.metadata();
    const std::string arch(class_.architecture);
    const HeadCounts heads{.n_heads = metadata.need<int64_t>(arch + ".attention.head_count"),
                           .n_kv_heads = metadata.need<int64_t>(arch + ".attention.head_count_kv")};
    const std::vector<HfTensor> mapped = map_tensors(named, class_, heads, is_tied);
    int64_t n_bytes = 0;
    const auto aligned = [](int64_t n) { return (n + 63) / 64 * 64; };
    for (const HfTensor& each : mapped) n_bytes += needs_copy(each) ? aligned(each.layout().n_bytes()) : 0;
    made_ = Buffer(static_cast<size_t>(n_bytes));
    std::byte* at = made_.data();
    for (const HfTensor& each : mapped) {
      Tensor tensor = each.layout();
      if (needs_copy(each)) {
        tensor.data = at;
        each.write(at);
        at += aligned(tensor.n_bytes());
      }
      tensors_.push_back({each.name(), tensor});
    }
  }

  // Changed tensors, and those that a file places at an address no float may have.
  static bool needs_copy(const HfTensor& tensor) {
    const auto address = reinterpret_cast<uintptr_t>(tensor.layout().data);
    return !tensor.is_view() ||
           address % static_cast<size_t>(format_of(tensor.layout().dtype).block_bytes) != 0;
  }

  Json config_;
  const HfModelClass& class_;
  Json defaults_;
  SafetensorsModel files_;
  HfKeys keys_;
  Buffer made_;
  std::vector<NamedTensor> tensors_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_hf_directory(const std::filesystem::path& directory,
                                              std::string_view config) {
  return std::make_unique<HfCheckpoint>(directory, config);
}

}  // namespace millrace
