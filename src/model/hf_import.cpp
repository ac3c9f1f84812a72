#include "model/hf_import.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/thread_pool.h"
#include "checkpoint/named_list.h"
#include "checkpoint/safetensors.h"
#include "model/families.h"
#include "model/hf/generation_config.h"
#include "model/hf/keys.h"
#include "model/hf/params.h"
#include "model/hf/quantisation.h"
#include "model/hf/sentence_modules.h"
#include "model/hf/tensors.h"
#include "tensor/buffer.h"

namespace millrace {
namespace {

constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr std::string_view kParamsFile = "params.json";
constexpr int64_t kBytesWorthThreads = 16 << 20;

bool has_flag(const Json& config, std::string_view key) {
  const Json* flag = config.find(key);
  return flag != nullptr && flag->is_bool() && flag->as_bool();
}

const HfModelClass& class_of(const Json& config) {
  const std::string& model_type = config.at("model_type").as_string();
  std::vector<std::string_view> known;
  for (const Family& family : all_families()) {
    for (const HfModelClass& each : family.hf_classes) {
      const bool is_meant = each.needs_flag.empty() || has_flag(config, each.needs_flag);
      if (each.model_type == model_type && is_meant) return each;
      known.push_back(each.model_type);
    }
  }
  fail(ErrorKind::bad_model, "the model_type {} is not known; the nearest known one is {}",
       printable(model_type), nearest_name(model_type, known));
}

// The two spellings of a folder: config.json beside model.safetensors, params.json beside
// consolidated.safetensors. Some folders have both.
struct Spelling {
  std::filesystem::path config, weights;
  bool is_params = false;
};

bool has_weights(const std::filesystem::path& folder, std::string_view name) {
  return std::filesystem::exists(folder / fmt::format("{}.safetensors", name)) ||
         std::filesystem::exists(folder / fmt::format("{}.safetensors.index.json", name));
}

Spelling spelling_of(const std::filesystem::path& folder, std::string_view config) {
  const bool is_complete = std::filesystem::exists(folder / config) && has_weights(folder, "model");
  const bool is_params =
      config == kParamsFile ||
      (!is_complete && std::filesystem::exists(folder / kParamsFile) && has_weights(folder, "consolidated"));
  if (!is_params) return {folder / config, folder};
  const std::filesystem::path index = folder / "consolidated.safetensors.index.json";
  return {folder / kParamsFile, std::filesystem::exists(index) ? index : folder / "consolidated.safetensors",
          true};
}

Json read_config(const Spelling& spelling) {
  Json json = Json::parse(read_file(spelling.config, kMaxConfigBytes), spelling.config.filename().string());
  return spelling.is_params ? config_of_params(json) : json;
}

class HfFolderCheckpoint final : public HfFolder {
 public:
  HfFolderCheckpoint(const std::filesystem::path& folder, const Spelling& spelling)
      : config_(read_config(spelling)),
        class_(class_of(text_config())),
        defaults_(Json::parse(class_.defaults, "the defaults of the class")),
        files_(spelling.weights),
        modules_(read_sentence_modules(folder)),
        keys_(class_.architecture) {
    HfConfig config(spelling.config.filename().string(), {&text_config(), &config_, &defaults_});
    if (const auto quantised = quantisation_config(config, folder))
      quantisation_ = HfQuantisation(*quantised);
    class_.write_keys(config, keys_);
    write_pooling();
    add_generation_config(folder, keys_.metadata());
    HfScope scope{.is_tied = has_tied_ends(config),
                  .n_draft_layers = config.count_or("num_nextn_predict_layers", 0, kCountOrNone)};
    config.refuse_rest();
    map(scope);
    make([](const Tensor& tensor) { return tensor.n_dims == 1; }, {});
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
  void make_all(const Progress& progress) override {
    make([](const Tensor&) { return true; }, progress);
  }
  const HfContents& contents() const override { return contents_; }
  std::vector<std::span<const std::byte>> mapped_files() const override {
    std::vector<std::span<const std::byte>> out = files_.mapped_files();
    for (const auto& files : dense_files_) std::ranges::copy(files->mapped_files(), std::back_inserter(out));
    return out;
  }

 private:
  // The part of the config that speaks of the text model.
  const Json& text_config() const {
    const Json* text = config_.find("text_config");
    return text != nullptr && text->is_object() ? *text : config_;
  }

  // What turns rows into embeddings. A decoder without a head is one too: its last position has seen all
  // others.
  void write_pooling() {
    const Json* classes = config_.find("architectures");
    const bool is_named = classes != nullptr && classes->is_array() && !classes->as_array().empty();
    const std::string_view name = is_named ? classes->as_array()[0].as_string() : std::string_view();
    const std::string causal = std::string(class_.architecture) + ".attention.causal";
    std::optional<Pooling> pooling = modules_.pooling;
    if (name.ends_with("ForSequenceClassification")) pooling = Pooling::rank;
    if (!pooling && name.ends_with("Model") && metadata().get_or<bool>(causal, true)) pooling = Pooling::last;
    if (pooling) keys_.set("pooling_type", int64_t{static_cast<int>(*pooling)});
  }

  // Of a model with a tower its own config decides, where that says anything.
  bool has_tied_ends(HfConfig& config) const {
    const bool is_of_text = config.flag_or("tie_word_embeddings", false);
    return &text_config() == &config_
               ? is_of_text
               : HfConfig("the config", {&config_}).flag_or("tie_word_embeddings", is_of_text);
  }

  // In the config of the text model or of the whole, or in a file of its own.
  static std::optional<Json> quantisation_config(HfConfig& config, const std::filesystem::path& folder) {
    for (const std::string_view key : {"quantization_config", "compression_config"}) {
      if (const Json* found = config.find(key)) return *found;
    }
    for (const auto& [name, method] :
         {std::pair("hf_quant_config.json", "modelopt"), std::pair("quantize_config.json", "gptq")}) {
      if (!std::filesystem::exists(folder / name)) continue;
      Json json = Json::parse(read_file(folder / name, kMaxConfigBytes), name);
      if (const Json* inner = json.find("quantization")) json = Json(*inner);
      json["quant_method"] = method;
      return json;
    }
    return std::nullopt;
  }

  void count_contents() {
    contents_.quantisation = quantisation_.method();
    contents_.n_files = files_.n_files();
    for (const SafetensorsTensor& tensor : files_.tensors()) {
      if (!is_of_tower(tensor.name)) continue;
      ++contents_.n_tower_tensors;
      contents_.tower_bytes += static_cast<int64_t>(tensor.bytes.size());
    }
    if (contents_.n_tower_tensors == 0) return;
    log_warning("{} tensors ({} MB) read images or sound and are left out: the model reads text only",
                contents_.n_tower_tensors, contents_.tower_bytes / 1000000);
  }

  // The projections of sentence-transformers: dense_2 and dense_3, after the steps 1 (pooling) and 2.
  void map_dense(const HeadCounts& heads) {
    for (size_t i = 0; i < modules_.dense.size(); ++i) {
      const std::filesystem::path file = modules_.dense[i] / "model.safetensors";
      dense_files_.push_back(std::make_unique<SafetensorsModel>(file));
      const std::vector<HfPart> parts =
          HfQuantisation().parts(*dense_files_.back(), [](std::string_view) { return true; });
      if (parts.size() != 1 || parts[0].name != "linear.weight") {
        fail(ErrorKind::bad_model, "{} should hold the tensor linear.weight and no other",
             printable(file.string(), 400));
      }
      mapped_.emplace_back(fmt::format("dense_{}.weight", i + 2), HfChange::none, HfOrder());
      mapped_.back().add_part(-1, parts[0]);
      mapped_.back().finish(heads);
    }
  }

  // Packed weights become F16 where their groups are no runs of inputs, and only there.
  static void say_what_grows(std::span<const HfPart> parts) {
    int64_t n = 0, n_bytes = 0;
    for (const HfPart& part : parts) {
      if (part.packed == nullptr || part.tensor.dtype != Dtype::f16) continue;
      ++n;
      n_bytes += part.tensor.n_bytes();
    }
    if (n > 0)
      log_warning(
          "{} matrices were quantised in act order and become F16, {} MB: no format has groups that are "
          "no runs of inputs",
          n, n_bytes / 1000000);
  }

  // Settles the tensors: those of the files, then those that the config holds.
  void map(HfScope scope) {
    count_contents();
    const std::vector<HfPart> parts = quantisation_.parts(
        files_, [](std::string_view name) { return !is_of_tower(name) && !is_buffer(name); });
    const std::string arch(class_.architecture);
    // Nothing where it is not one number: then nobody pairs heads.
    const auto optional = [&](const char* key) {
      const MetaValue* value = metadata().find(arch + key);
      const bool is_one = value != nullptr && std::holds_alternative<int64_t>(*value);
      return is_one ? std::get<int64_t>(*value) : 0;
    };
    say_what_grows(parts);
    scope.n_layers = metadata().need<int64_t>(arch + ".block_count");
    scope.heads = {.n_heads = metadata().need<int64_t>(arch + ".attention.head_count"),
                   .n_kv_heads = optional(".attention.head_count_kv"),
                   .nope_dim = optional(".attention.key_length_mla") - optional(".rope.dimension_count"),
                   .v_head_dim = optional(".attention.value_length_mla")};
    mapped_ = map_tensors(parts, class_, metadata(), scope);
    map_dense(scope.heads);
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
  void make(Predicate is_wanted, const Progress& progress) {
    std::vector<NamedTensor> tensors(tensors_.all().begin(), tensors_.all().end());
    std::vector<size_t> due;
    int64_t n_bytes = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const Tensor& tensor = tensors[i].tensor;
      if (tensor.data != nullptr || !is_wanted(tensor)) continue;
      due.push_back(i);
      n_bytes += aligned(tensor.n_bytes());
    }
    std::byte* at = made_.emplace_back(static_cast<size_t>(n_bytes)).data();
    for (const size_t i : due) {
      tensors[i].tensor.data = at;
      at += aligned(tensors[i].tensor.n_bytes());
    }
    write_all(tensors, due, progress);
    tensors_ = NamedList<NamedTensor>(std::move(tensors));
  }

  // On all cores: laying out quantised weights takes longer than reading them.
  void write_all(std::span<const NamedTensor> tensors, std::span<const size_t> due,
                 const Progress& progress) {
    int64_t n_total = 0;
    for (const size_t i : due) n_total += tensors[i].tensor.n_bytes();
    const bool is_worth_it = n_total > kBytesWorthThreads;
    ThreadPool pool(is_worth_it ? n_physical_cores() : 1);
    std::atomic<int64_t> n_done = 0;
    std::exception_ptr error;
    std::mutex error_mutex;
    pool.run(static_cast<int>(due.size()), [&](int task, int thread) {
      const Tensor& tensor = tensors[due[static_cast<size_t>(task)]].tensor;
      try {
        mapped_[due[static_cast<size_t>(task)]].write(tensor.data);
      } catch (...) {
        const std::scoped_lock lock(error_mutex);
        error = std::current_exception();
      }
      n_done += tensor.n_bytes();
      if (thread == 0 && progress) progress(n_done, n_total);
    });
    if (error) std::rethrow_exception(error);
  }

  Json config_;
  const HfModelClass& class_;
  Json defaults_;
  SafetensorsModel files_;
  SentenceModules modules_;
  std::vector<std::unique_ptr<SafetensorsModel>> dense_files_;
  HfKeys keys_;
  HfQuantisation quantisation_;
  HfContents contents_;
  std::vector<HfTensor> mapped_;  // tensors()[i] is made from mapped_[i]
  NamedList<NamedTensor> tensors_;
  std::vector<Buffer> made_;
};

}  // namespace

std::unique_ptr<HfFolder> read_hf_folder(const std::filesystem::path& folder, std::string_view config) {
  return std::make_unique<HfFolderCheckpoint>(folder, spelling_of(folder, config));
}

std::unique_ptr<HfFolder> open_hf_directory(const std::filesystem::path& folder, std::string_view config,
                                            const Progress& progress) {
  std::unique_ptr<HfFolder> opened = read_hf_folder(folder, config);
  opened->make_all(progress);
  return opened;
}

}  // namespace millrace
