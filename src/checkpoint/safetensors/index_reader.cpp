// The index of a sharded model: which tensor lies in which file. It lists names of files, never paths.
#include <map>

#include "base/json_events.h"
#include "checkpoint/safetensors/parts.h"

namespace millrace::safetensors {
namespace {

constexpr size_t kMaxShards = 10'000;
constexpr size_t kMaxShardNameBytes = 255;
constexpr size_t kMaxDepth = 16;  // of "metadata", which is not read

bool is_plain_file_name(std::string_view name) {
  return name.size() <= kMaxShardNameBytes && name.ends_with(".safetensors") && !name.starts_with('.') &&
         name.find_first_of("/\\:") == name.npos && name.find('\0') == name.npos;
}

class IndexReader final : public JsonEvents {
 public:
  IndexReader(std::string_view file, MemoryBudget& budget) : file_(file), budget_(budget) {}

  void begin_object() override {
    if (depth_ == 1 && is_map()) {
      if (std::exchange(has_map_, true)) refuse("\"weight_map\" occurs twice");
    } else if (depth_ > 1 && is_map()) {
      refuse_value();
    }
    ++depth_;
  }
  void end_object() override { --depth_; }
  void begin_array() override {
    if (depth_ == 0 || is_map()) refuse_value();
    ++depth_;
  }
  void end_array() override { --depth_; }

  void key(std::string_view key) override {
    if (depth_ == 1) member_ = key;
    if (depth_ == 2) key_ = key;
  }

  void value(Json scalar) override {
    if (depth_ != 0 && !is_map()) return;
    if (depth_ != 2 || !scalar.is_string()) refuse_value();
    budget_.take(sizeof(Index::Entry) + key_.size(), file_);
    entries_.push_back({key_, shard_of(scalar.as_string())});
  }

  Index take() {
    if (!has_map_) refuse_value();
    index_.entries = NamedList(std::move(entries_));
    return std::move(index_);
  }

 private:
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::bad_model, "{}: {}", printable(file_), fmt::format(format, std::forward<Args>(args)...));
  }

  [[noreturn]] void refuse_value() const {
    refuse("expected an object with a \"weight_map\" from tensor names to file names");
  }

  bool is_map() const { return member_ == "weight_map"; }

  uint32_t shard_of(const std::string& name) {
    const auto [at, is_new] = shard_of_name_.emplace(name, index_.shards.size());
    if (!is_new) return at->second;
    if (!is_plain_file_name(name)) {
      refuse("expected the plain name of a .safetensors file for tensor \"{}\", found \"{}\"",
             printable(key_), printable(name));
    }
    if (index_.shards.size() == kMaxShards) refuse("more than {} files", kMaxShards);
    index_.shards.push_back(name);
    return at->second;
  }

  std::string_view file_;
  MemoryBudget& budget_;
  size_t depth_ = 0;
  std::string member_;  // of the index
  std::string key_;     // of the map: the name of a tensor
  bool has_map_ = false;
  std::map<std::string, uint32_t> shard_of_name_;
  std::vector<Index::Entry> entries_;
  Index index_;
};

}  // namespace

Index read_index(std::string_view text, std::string_view name, MemoryBudget& budget) {
  IndexReader reader(name, budget);
  read_json_events(text, name, reader, ErrorKind::bad_model, {.max_depth = kMaxDepth});
  return reader.take();
}

}  // namespace millrace::safetensors
