#include "model/hf/generation_config.h"

#include "base/file.h"
#include "model/hf/config.h"

namespace millrace {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;

// An empty object where there is no file.
Json read(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "generation_config.json";
  if (!std::filesystem::exists(path)) return Json(Json::Object());
  Json json = Json::parse(read_file(path, kMaxBytes), path.string());
  if (!json.is_object())
    fail(ErrorKind::bad_model, "generation_config.json should be an object, found {}", json.type_name());
  return json;
}

}  // namespace

void add_generation_config(const std::filesystem::path& folder, Metadata& metadata) {
  const Json json = read(folder);
  HfConfig config("generation_config.json", {&json});
  if (config.has("do_sample") && !config.flag_or("do_sample", true)) {
    metadata.add("general.sampling.temp", 0.0);
    return;
  }
  const struct {
    std::string_view in_file, key;
    Range range;
  } reals[] = {{"temperature", "temp", {0.0, 1e3}},
               {"top_p", "top_p", {0.0, 1.0}},
               {"min_p", "min_p", {0.0, 1.0}},
               {"repetition_penalty", "penalty_repeat", {1e-3, 1e3}},
               {"presence_penalty", "presence_penalty", {-1e3, 1e3}}};
  for (const auto& [in_file, key, range] : reals) {
    if (config.has(in_file))
      metadata.add("general.sampling." + std::string(key), config.real(in_file, range));
  }
  if (config.has("top_k")) metadata.add("general.sampling.top_k", config.count("top_k", {0, INT32_MAX}));
}

std::vector<int32_t> generation_end_tokens(const std::filesystem::path& folder) {
  const Json json = read(folder);
  HfConfig config("generation_config.json", {&json});
  const Json* ends = config.find("eos_token_id");
  std::vector<int32_t> ids;
  if (ends == nullptr) return ids;
  const Json::Array one{*ends};
  for (const Json& id : ends->is_array() ? ends->as_array() : one) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() > INT32_MAX)
      config.refuse("eos_token_id", "expected token ids");
    ids.push_back(static_cast<int32_t>(id.as_int()));
  }
  return ids;
}

}  // namespace millrace
