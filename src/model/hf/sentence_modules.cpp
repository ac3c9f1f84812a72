#include "model/hf/sentence_modules.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxBytes = size_t{1} << 20;

Json read_json(const fs::path& path) {
  return Json::parse(read_file(path, kMaxBytes), path.filename().string());
}

// Of "sentence_transformers.models.Pooling": "Pooling".
std::string_view last_part(std::string_view type) { return type.substr(type.rfind('.') + 1); }

// The one mode that is set.
Pooling read_pooling_config(const fs::path& path) {
  const struct {
    std::string_view key;
    Pooling pooling;
  } kKnown[] = {{"pooling_mode_cls_token", Pooling::cls},
                {"pooling_mode_mean_tokens", Pooling::mean},
                {"pooling_mode_lasttoken", Pooling::last}};
  const Json config = read_json(path / "config.json");
  std::optional<Pooling> found;
  for (const auto& [key, value] : config.as_object()) {
    if (!key.starts_with("pooling_mode_") || !value.is_bool() || !value.as_bool()) continue;
    const auto* known = std::ranges::find(kKnown, key, [](const auto& each) { return each.key; });
    if (known == std::end(kKnown) || found) {
      fail(ErrorKind::bad_model, "{} in 1_Pooling is not implemented{}", printable(key),
           found ? " beside another mode" : "");
    }
    found = known->pooling;
  }
  if (!found) fail(ErrorKind::bad_model, "the pooling of the folder names none of cls, mean and last token");
  return *found;
}

void check_dense_config(const fs::path& path) {
  const Json config = read_json(path / "config.json");
  const Json* bias = config.find("bias");
  const Json* activation = config.find("activation_function");
  if (bias != nullptr && bias->as_bool())
    fail(ErrorKind::bad_model, "the projection in {} has a bias, which is not implemented",
         printable(path.filename().string()));
  if (activation != nullptr && last_part(activation->as_string()) != "Identity") {
    fail(ErrorKind::bad_model, "the projection in {} ends with {}, only Identity is implemented",
         printable(path.filename().string()), printable(activation->as_string()));
  }
}

}  // namespace

SentenceModules read_sentence_modules(const fs::path& folder) {
  SentenceModules modules;
  if (!fs::exists(folder / "modules.json")) return modules;
  const Json list = read_json(folder / "modules.json");
  for (const Json& module : list.as_array()) {
    const std::string_view type = last_part(module.at("type").as_string());
    const fs::path path = folder / module.at("path").as_string();
    if (type == "Pooling") {
      modules.pooling = read_pooling_config(path);
    } else if (type == "Dense" && modules.pooling) {
      check_dense_config(path);
      modules.dense.push_back(path);
    } else if (type != "Transformer" && type != "Normalize") {
      fail(ErrorKind::bad_model, "modules.json has a step {} that is not implemented", printable(type));
    }
  }
  if (modules.dense.size() > 2) {
    fail(ErrorKind::bad_model, "modules.json has {} projections, expected at most 2", modules.dense.size());
  }
  return modules;
}

}  // namespace millrace
