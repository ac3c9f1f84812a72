#include <iterator>
#include <system_error>

#include "checkpoint/safetensors/parts.h"

namespace millrace {
namespace safetensors {
namespace {

constexpr std::string_view kIndexSuffix = ".index.json";
constexpr size_t kMaxIndexBytes = 64 << 20;

// What a folder's model is read from.
std::filesystem::path entry_of(const std::filesystem::path& path) {
  std::error_code unreadable;  // opening will tell
  if (!std::filesystem::is_directory(path, unreadable)) return path;
  for (const char* name : {"model.safetensors.index.json", "model.safetensors"}) {
    if (std::filesystem::exists(path / name, unreadable)) return path / name;
  }
  fail(ErrorKind::bad_model, "expected model.safetensors or model.safetensors.index.json in the folder {}",
       printable(path.string(), 400));
}

void append_file(const std::filesystem::path& path, MemoryBudget& budget, std::vector<MappedFile>& files,
                 std::vector<SafetensorsTensor>& tensors) {
  files.emplace_back(path);
  std::vector<SafetensorsTensor> part = read_file(files.back().bytes(), path.filename().string(), budget);
  std::ranges::move(part, std::back_inserter(tensors));
}

// Every tensor of the index must be in the file that it names.
void check_index(const Index& index, std::span<const MappedFile> files,
                 const NamedList<SafetensorsTensor>& tensors) {
  for (const auto& [name, shard] : index.entries.all()) {
    const SafetensorsTensor* tensor = tensors.find(name);
    const auto file = files[shard].bytes();
    const bool is_there = tensor != nullptr && tensor->bytes.data() >= file.data() &&
                          tensor->bytes.data() <= file.data() + file.size();
    if (is_there) continue;
    fail(ErrorKind::bad_model, "expected tensor \"{}\" in {}, as the index says, found none there",
         printable(name), printable(index.shards[shard]));
  }
}

}  // namespace
}  // namespace safetensors

NamedList<SafetensorsTensor> parse_safetensors(std::span<const std::byte> file, std::string_view name) {
  safetensors::MemoryBudget budget;
  return NamedList(safetensors::read_file(file, name, budget));
}

SafetensorsModel::SafetensorsModel(const std::filesystem::path& path) {
  const std::filesystem::path entry = safetensors::entry_of(path);
  safetensors::MemoryBudget budget;
  std::vector<SafetensorsTensor> tensors;
  if (!entry.string().ends_with(safetensors::kIndexSuffix)) {
    safetensors::append_file(entry, budget, files_, tensors);
    tensors_ = NamedList(std::move(tensors));
    return;
  }
  const std::string text = millrace::read_file(entry, safetensors::kMaxIndexBytes);
  const safetensors::Index index = safetensors::read_index(text, entry.filename().string(), budget);
  for (const std::string& shard : index.shards) {
    safetensors::append_file(entry.parent_path() / shard, budget, files_, tensors);
  }
  tensors_ = NamedList(std::move(tensors));
  safetensors::check_index(index, files_, tensors_);
}

}  // namespace millrace
