#include "model/hf/quantisation.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "model/hf/config.h"

namespace millrace {
namespace {

// What a GPU kernel would quantise activations and caches with: we compute in float32, or quantise ourselves.
constexpr std::string_view kOfActivations[] = {
    ".input_scale",       ".input_zero_point",   ".k_scale",      ".v_scale",          ".q_scale",
    ".prob_output_scale", ".input_global_scale", ".output_scale", ".activation_scale", ".qscale_act"};

std::vector<Packing> fp8_packings(ScaleBlock block) {
  const auto packing = [block](std::string_view codes, std::string_view scale) {
    return Packing{.codes = codes,
                   .dtype = "F8_E4M3",
                   .becomes = codes,
                   .beside = {scale},
                   .make = [=](const PackedTensors& t) { return make_fp8(t, codes, scale, block); }};
  };
  // The last one is of stacked experts, whose names end as their projections do.
  return {packing(".weight", ".weight_scale_inv"), packing(".weight", ".weight_scale"),
          packing(".weight", ".qscale_weight"), packing(".weight", ".scale"),
          packing("_proj", "_proj_scale_inv")};
}

ScaleBlock read_block(HfConfig& config, std::string_view key) {
  ScaleBlock block;
  if (!config.has(key)) {
    config.find(key);
    return block;
  }
  const std::vector<double> sizes = config.reals(key);
  if (sizes.size() != 2 || !(sizes[0] >= 1 && sizes[0] <= 1e6) || sizes[1] < 128 || sizes[1] > 1e6 ||
      static_cast<int64_t>(sizes[1]) % 128 != 0)
    config.refuse(key, "expected two sizes, the second a multiple of 128");
  return {static_cast<int64_t>(sizes[0]), static_cast<int64_t>(sizes[1])};
}

void ignore(HfConfig& config, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) config.find(key);
}

// Which modules are left out, their tensors say: those have no scales.
void ignore_lists(HfConfig& config) {
  ignore(config, {"quant_method", "modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules"});
}

std::vector<Packing> read_fp8(HfConfig& config) {
  config.expect("fmt", "e4m3");
  ignore(config, {"activation_scheme", "scale_fmt", "kv_cache_scheme", "dequantize", "activation_scale_ub"});
  std::vector<Packing> packings = fp8_packings(read_block(config, "weight_block_size"));
  // Beside them, experts may be MXFP4 in bytes.
  packings.push_back({.codes = ".weight",
                      .dtype = "I8",
                      .becomes = ".weight",
                      .beside = {".scale"},
                      .make = [](const PackedTensors& t) { return make_mxfp4(t, ".weight", ".scale"); }});
  return packings;
}

std::vector<Packing> read_awq(HfConfig& config) {
  config.expect("version", "gemm");
  if (config.count_or("bits", 4) != 4) config.refuse("bits", "only 4 is implemented");
  ignore(config, {"group_size", "zero_point", "backend", "do_fuse", "fuse_max_seq_len", "modules_to_fuse",
                  "exllama_config", "w_bit", "q_group_size"});
  return {{.codes = ".qweight",
           .dtype = "I32",
           .becomes = ".weight",
           .beside = {".qzeros", ".scales"},
           .make = make_awq}};
}

std::vector<Packing> read_gptq(HfConfig& config) {
  const std::string form = config.text_or("checkpoint_format", "gptq");
  if (form != "gptq" && form != "gptq_v2")
    config.refuse("checkpoint_format",
                  fmt::format("only gptq and gptq_v2 are implemented, found {}", printable(form)));
  const GptqOptions options{.n_bits = static_cast<int>(config.count("bits", {2, 8})),
                            .stores_zero_minus_one = form == "gptq"};
  ignore(config, {"group_size",
                  "desc_act",
                  "sym",
                  "damp_percent",
                  "damp_auto_increment",
                  "true_sequential",
                  "static_groups",
                  "lm_head",
                  "block_name_to_quantize",
                  "cache_block_outputs",
                  "dataset",
                  "tokenizer",
                  "model_seqlen",
                  "batch_size",
                  "module_name_preceding_first_block",
                  "modules_in_block_to_quantize",
                  "pad_token_id",
                  "use_cuda_fp16",
                  "use_exllama",
                  "disable_exllama",
                  "exllama_config",
                  "max_input_length",
                  "meta",
                  "backend",
                  "model_file_base_name",
                  "model_name_or_path",
                  "quantizer",
                  "iters",
                  "nsamples",
                  "seqlen",
                  "data_type",
                  "autoround_version"});
  config.expect("pack_dtype", "int32");
  return {{.codes = ".qweight",
           .dtype = "I32",
           .becomes = ".weight",
           .beside = {".qzeros", ".scales", ".g_idx"},
           .make = [options](const PackedTensors& t) { return make_gptq(t, options); }}};
}

std::vector<Packing> read_mxfp4(HfConfig& config) {
  ignore(config, {"dequantize", "swizzle"});
  return {{.codes = "_blocks",
           .dtype = "U8",
           .becomes = "_blocks",
           .beside = {"_scales"},
           .make = [](const PackedTensors& t) { return make_mxfp4(t, "_blocks", "_scales"); }}};
}

std::vector<Packing> read_modelopt(HfConfig& config) {
  const std::string algorithm = config.text_or("quant_algo", "");
  ignore(config, {"kv_cache_quant_algo", "kv_cache_scheme", "group_size", "config_groups", "producer"});
  if (algorithm == "FP8") return fp8_packings({});
  if (algorithm != "NVFP4")
    config.refuse("quant_algo",
                  fmt::format("only FP8 and NVFP4 are implemented, found {}", printable(algorithm)));
  const Nvfp4Names names{.codes = ".weight",
                         .scale = ".weight_scale",
                         .global_scale = ".weight_scale_2",
                         .use = GlobalScale::multiplies};
  return {{.codes = ".weight",
           .dtype = "U8",
           .becomes = ".weight",
           .beside = {".weight_scale", ".weight_scale_2"},
           .make = [names](const PackedTensors& t) { return make_nvfp4(t, names); }}};
}

// --- compressed-tensors: a format, and groups of modules with the arguments of their quantisation ---------

void expect_one_of(HfConfig& config, std::string_view key, std::initializer_list<std::string_view> known) {
  const std::string found = config.text_or(key, *known.begin());
  if (std::ranges::find(known, found) == known.end())
    config.refuse(key, fmt::format("{} is not implemented", printable(found)));
}

// What the groups say of weights that the tensors do not show.
struct GroupArguments {
  int n_bits = 4;  // of packed integers
  ScaleBlock block;
};

// All groups must share the bits: the name of a weight does not say its group.
GroupArguments read_groups(HfConfig& config) {
  const Json* groups = config.find("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->as_object().empty())
    config.refuse("config_groups", "expected an object with groups");
  GroupArguments all;
  int64_t n_bits = 0;
  for (const auto& [name, group] : groups->as_object()) {
    const Json* weights = group.find("weights");
    if (weights == nullptr || weights->is_null()) continue;
    HfConfig arguments("the weights of a group in quantization_config", {weights});
    expect_one_of(arguments, "type", {"int", "float"});
    expect_one_of(arguments, "strategy", {"tensor", "channel", "group", "block", "tensor_group"});
    if (arguments.has("block_structure")) all.block = read_block(arguments, "block_structure");
    const int64_t found = arguments.count_or("num_bits", 4, {1, 8});
    ignore(arguments, {"symmetric", "group_size", "actorder", "observer", "observer_kwargs", "scale_dtype",
                       "zp_dtype", "block_structure"});
    arguments.refuse_rest();
    if (arguments.text_or("type", "int") != "int") continue;
    if (n_bits != 0 && found != n_bits)
      config.refuse("config_groups", "groups of different numbers of bits are not implemented");
    n_bits = found;
    all.n_bits = static_cast<int>(found);
  }
  return all;
}

void refuse_sparsity(HfConfig& config) {
  const Json* sparsity = config.find("sparsity_config");
  if (sparsity == nullptr || !sparsity->is_object() || sparsity->as_object().empty()) return;
  HfConfig inner("sparsity_config", {sparsity});
  inner.expect("format", "dense");
}

std::vector<Packing> read_compressed_tensors(HfConfig& config) {
  constexpr std::string_view kFormats[] = {"pack-quantized",  "int-quantized",        "naive-quantized",
                                           "float-quantized", "nvfp4-pack-quantized", "mxfp4-pack-quantized",
                                           "mixed-precision"};
  const std::string format = config.text_or("format", "");
  if (std::ranges::find(kFormats, format) == std::end(kFormats))
    config.refuse("format", fmt::format("{} is not implemented", printable(format)));
  refuse_sparsity(config);
  ignore(config, {"quantization_status", "kv_cache_scheme", "global_compression_ratio", "version",
                  "transform_config"});
  if (const Json* transform = config.find("transform_config");
      transform != nullptr && transform->is_object() && !transform->as_object().empty())
    config.refuse("transform_config", "transforms of weights are not implemented");
  const auto [n_bits, block] = read_groups(config);
  const Nvfp4Names nvfp4{.codes = ".weight_packed",
                         .scale = ".weight_scale",
                         .global_scale = ".weight_global_scale",
                         .use = GlobalScale::divides};
  std::vector<Packing> packings = fp8_packings(block);
  packings.push_back(
      {.codes = ".weight_packed",
       .dtype = "I32",
       .becomes = ".weight",
       .beside = {".weight_scale", ".weight_shape", ".weight_zero_point", ".weight_g_idx"},
       .make = [bits = n_bits](const PackedTensors& t) { return make_pack_quantized(t, bits); }});
  packings.push_back({.codes = ".weight",
                      .dtype = "I8",
                      .becomes = ".weight",
                      .beside = {".weight_scale", ".weight_zero_point"},
                      .make = make_int8});
  packings.push_back({.codes = ".weight_packed",
                      .dtype = "U8",
                      .becomes = ".weight",
                      .beside = {".weight_scale", ".weight_global_scale"},
                      .make = [nvfp4](const PackedTensors& t) -> std::unique_ptr<PackedWeight> {
                        if (t.find(nvfp4.global_scale) != nullptr) return make_nvfp4(t, nvfp4);
                        return make_mxfp4(t, ".weight_packed", ".weight_scale");
                      }});
  return packings;
}

struct Method {
  std::string_view name;
  std::vector<Packing> (*read)(HfConfig& config);
};
constexpr Method kMethods[] = {
    {"fp8", read_fp8},           {"fbgemm_fp8", read_fp8}, {"awq", read_awq},
    {"gptq", read_gptq},         {"mxfp4", read_mxfp4},    {"compressed-tensors", read_compressed_tensors},
    {"modelopt", read_modelopt},
};

bool is_of_activations(std::string_view name) {
  return std::ranges::any_of(kOfActivations,
                             [name](std::string_view ending) { return name.ends_with(ending); });
}

// A tensor that can be used as it lies, or of which vectors are made.
Tensor plain_tensor(const SafetensorsTensor& from) {
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

// A table of 64-bit integers, in 32 bits as ops read it.
class NarrowTable final : public PackedWeight {
 public:
  explicit NarrowTable(const SafetensorsTensor& from) : from_(from) {}

  Tensor layout() const override { return Tensor(nullptr, Dtype::i32, {from_.shape[0], from_.shape[1]}); }
  void write(Dtype dtype, std::byte* out) const override {
    check(dtype == Dtype::i32, "a table has one format");
    for (size_t i = 0; i < from_.bytes.size() / sizeof(int64_t); ++i) {
      int64_t wide = 0;
      std::memcpy(&wide, from_.bytes.data() + i * sizeof wide, sizeof wide);
      const auto narrow = static_cast<int32_t>(wide);
      if (narrow != wide)
        fail(ErrorKind::bad_model, "tensor {} holds {}, which needs more than 32 bits", printable(from_.name),
             wide);
      std::memcpy(out + i * sizeof narrow, &narrow, sizeof narrow);
    }
  }

 private:
  const SafetensorsTensor& from_;
};

// The packing that `tensor` holds the codes of, or nullptr.
const Packing* packing_of(std::span<const Packing> packings, const SafetensorsModel& files,
                          const SafetensorsTensor& tensor) {
  for (const Packing& packing : packings) {
    if (tensor.dtype != packing.dtype || !tensor.name.ends_with(packing.codes)) continue;
    const std::string stem = tensor.name.substr(0, tensor.name.size() - packing.codes.size());
    if (files.find(stem + std::string(packing.beside[0])) != nullptr) return &packing;
  }
  return nullptr;
}

}  // namespace

HfQuantisation::HfQuantisation(const Json& json) {
  HfConfig config("quantization_config", {&json});
  if (!json.is_object()) config.refuse("quant_method", "expected an object around it");
  method_ = config.text_or("quant_method", "");
  const auto* method = std::ranges::find(kMethods, method_, &Method::name);
  if (method == std::end(kMethods)) {
    config.refuse("quant_method", fmt::format("checkpoints quantised with {} are not implemented",
                                              method_.empty() ? "an unnamed method" : printable(method_)));
  }
  ignore_lists(config);
  packings_ = method->read(config);
  config.refuse_rest();
}

std::vector<HfPart> HfQuantisation::parts(const SafetensorsModel& files,
                                          const std::function<bool(std::string_view)>& is_wanted) const {
  std::vector<HfPart> parts;
  std::set<std::string, std::less<>> members;  // of packed weights
  std::vector<const SafetensorsTensor*> rest;
  for (const SafetensorsTensor& tensor : files.tensors()) {
    if (!is_wanted(tensor.name)) continue;
    const Packing* packing = packing_of(packings_, files, tensor);
    if (packing == nullptr) {
      rest.push_back(&tensor);
      continue;
    }
    const PackedTensors packed(files.list(),
                               tensor.name.substr(0, tensor.name.size() - packing->codes.size()));
    for (const std::string_view ending : packing->beside) members.insert(packed.stem() + std::string(ending));
    std::shared_ptr<const PackedWeight> weight = packing->make(packed);
    parts.push_back({packed.stem() + std::string(packing->becomes), weight->layout(), std::move(weight)});
  }
  for (const SafetensorsTensor* tensor : rest) {
    const bool is_used =
        members.contains(tensor->name) || (!packings_.empty() && is_of_activations(tensor->name));
    if (is_used) continue;
    if (tensor->dtype == "I64" && tensor->shape.size() == 2) {
      auto table = std::make_shared<NarrowTable>(*tensor);
      parts.push_back({tensor->name, table->layout(), table});
    } else {
      parts.push_back({tensor->name, plain_tensor(*tensor), nullptr});
    }
  }
  return parts;
}

}  // namespace millrace
