// The header of a safetensors file. It is read as a stream: a header of 100 MB would be gigabytes as a tree,
// and a tree has forgotten which keys came twice.
#include <algorithm>
#include <cstring>
#include <optional>

#include "base/json_events.h"
#include "checkpoint/safetensors/parts.h"

namespace millrace::safetensors {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxDims = 8;
constexpr size_t kMaxDepth = 3;

struct Type {
  std::string_view name;
  int n_bits;
};
constexpr Type kTypes[] = {
    {"BOOL", 8},        {"U8", 8},          {"I8", 8},      {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},
    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},        {"F32", 32},    {"C64", 64},    {"F64", 64},    {"I64", 64},
    {"U64", 64},        {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6},
};

const Type* find_type(std::string_view name) {
  const auto* type = std::ranges::find(kTypes, name, &Type::name);
  return type == std::end(kTypes) ? nullptr : type;
}

class HeaderReader final : public JsonEvents {
 public:
  HeaderReader(std::span<const std::byte> data, std::string_view file, MemoryBudget& budget)
      : data_(data), file_(file), budget_(budget) {}

  void begin_object() override {
    if (at_ == Place::start) {
      at_ = Place::top;
    } else if (at_ == Place::top && key_ == "__metadata__") {
      if (std::exchange(has_metadata_, true)) refuse("\"__metadata__\" occurs twice");
      at_ = Place::metadata;
    } else if (at_ == Place::top) {
      at_ = Place::tensor;
      dtype_ = nullptr;
      shape_.reset();
      offsets_.reset();
    } else {
      refuse_value("an object");
    }
  }

  void end_object() override {
    if (at_ == Place::tensor) finish_tensor();
    at_ = at_ == Place::top ? Place::end : Place::top;
  }

  void begin_array() override {
    if (at_ == Place::tensor && member_ == "shape") {
      begin_list(shape_, Place::shape);
    } else if (at_ == Place::tensor && member_ == "data_offsets") {
      begin_list(offsets_, Place::offsets);
    } else {
      refuse_value("an array");
    }
  }

  void end_array() override { at_ = Place::tensor; }

  void key(std::string_view key) override {
    if (at_ == Place::top) {
      key_ = key;
    } else if (at_ == Place::metadata) {
      budget_.take(sizeof(std::string) + key.size(), file_);
      metadata_keys_.emplace_back(key);
    } else {
      member_ = key;
    }
  }

  void value(Json scalar) override {
    if (at_ == Place::metadata && scalar.is_string()) return;
    if (at_ == Place::tensor && member_ == "dtype" && scalar.is_string())
      return set_dtype(scalar.as_string());
    if (at_ == Place::shape && is_count(scalar)) return append(*shape_, kMaxDims, scalar);
    if (at_ == Place::offsets && is_count(scalar)) return append(*offsets_, 2, scalar);
    refuse_value(scalar.is_string() ? "a string" : scalar.dump());
  }

  // Sorted out by where they lie: they must tile the data.
  std::vector<SafetensorsTensor> take() {
    std::ranges::sort(metadata_keys_);
    if (std::ranges::adjacent_find(metadata_keys_) != metadata_keys_.end()) {
      refuse("a key of \"__metadata__\" occurs twice");
    }
    check_tiling();
    return std::move(tensors_);
  }

 private:
  enum class Place { start, top, metadata, tensor, shape, offsets, end };

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::bad_model, "{}: {}", printable(file_), fmt::format(format, std::forward<Args>(args)...));
  }

  [[noreturn]] void refuse_value(std::string_view found) const {
    if (at_ == Place::start) refuse("expected an object as header, found {}", found);
    if (at_ == Place::top)
      refuse("expected an object for \"{}\", found {}", printable(key_), printable(found));
    if (at_ == Place::metadata)
      refuse("expected only strings in \"__metadata__\", found {}", printable(found));
    refuse(
        "expected \"dtype\" (a string), \"shape\" and \"data_offsets\" (arrays of integers from 0 on) for "
        "tensor \"{}\", found {} under \"{}\"",
        printable(key_), printable(found), printable(member_));
  }

  static bool is_count(const Json& scalar) { return scalar.is_int() && scalar.as_int() >= 0; }

  void begin_list(std::optional<std::vector<int64_t>>& list, Place place) {
    if (list) refuse_twice();
    list.emplace();
    at_ = place;
  }

  void append(std::vector<int64_t>& list, size_t n_max, const Json& scalar) const {
    if (list.size() == n_max) {
      refuse("expected at most {} numbers in \"{}\" of tensor \"{}\"", n_max, member_, printable(key_));
    }
    list.push_back(scalar.as_int());
  }

  void set_dtype(std::string_view name) {
    if (dtype_ != nullptr) refuse_twice();
    dtype_ = find_type(name);
    if (dtype_ == nullptr) {
      refuse("tensor \"{}\" has the unknown dtype \"{}\"", printable(key_), printable(name));
    }
  }

  [[noreturn]] void refuse_twice() const {
    refuse("\"{}\" of tensor \"{}\" occurs twice", member_, printable(key_));
  }

  void finish_tensor() {
    if (dtype_ == nullptr || !shape_ || !offsets_ || offsets_->size() != 2) {
      refuse("expected \"dtype\", \"shape\" and two \"data_offsets\" for tensor \"{}\"", printable(key_));
    }
    const auto begin = static_cast<uint64_t>((*offsets_)[0]);
    const auto end = static_cast<uint64_t>((*offsets_)[1]);
    if (begin > end || end > data_.size()) {
      refuse("cut off or corrupt: expected bytes {} to {} for tensor \"{}\", the data has {}", begin, end,
             printable(key_), data_.size());
    }
    if (n_bytes() != end - begin) {
      refuse("tensor \"{}\" has {} bytes, its dtype and shape need another size", printable(key_),
             end - begin);
    }
    budget_.take(sizeof(SafetensorsTensor) + key_.size() + shape_->size() * sizeof(int64_t) + 64, file_);
    tensors_.push_back({key_, dtype_->name, *shape_, data_.subspan(begin, end - begin)});
  }

  // What dtype and shape need; nothing where that is no whole number of bytes or too large to count.
  std::optional<uint64_t> n_bytes() const {
    uint64_t n_bits = dtype_->n_bits;
    for (const int64_t dim : *shape_) {
      if (__builtin_mul_overflow(n_bits, static_cast<uint64_t>(std::max<int64_t>(dim, 1)), &n_bits))
        return {};
    }
    if (std::ranges::find(*shape_, 0) != shape_->end()) return 0;
    return n_bits % 8 == 0 ? std::optional(n_bits / 8) : std::nullopt;
  }

  // No holes, no overlap, no tail: nothing in the file is hidden from whoever reads the list.
  void check_tiling() const {
    std::vector<const SafetensorsTensor*> by_place(tensors_.size());
    for (size_t i = 0; i < tensors_.size(); ++i) by_place[i] = &tensors_[i];
    const auto place = [](const SafetensorsTensor* tensor) {
      return std::pair(tensor->bytes.data(), tensor->bytes.size());
    };
    std::ranges::sort(by_place, {}, place);
    const std::byte* end = data_.data();
    for (const SafetensorsTensor* tensor : by_place) {
      if (tensor->bytes.data() != end) {
        refuse("tensor \"{}\" does not begin where the tensor before it ends", printable(tensor->name));
      }
      end += tensor->bytes.size();
    }
    if (end != data_.data() + data_.size()) {
      refuse("{} bytes after the last tensor belong to none", data_.data() + data_.size() - end);
    }
  }

  std::span<const std::byte> data_;
  std::string_view file_;
  MemoryBudget& budget_;
  Place at_ = Place::start;
  std::string key_;     // of the header: the name of a tensor
  std::string member_;  // of the tensor
  const Type* dtype_ = nullptr;
  std::optional<std::vector<int64_t>> shape_;
  std::optional<std::vector<int64_t>> offsets_;
  bool has_metadata_ = false;
  std::vector<std::string> metadata_keys_;
  std::vector<SafetensorsTensor> tensors_;
};

}  // namespace

void MemoryBudget::take(uint64_t n_bytes, std::string_view file) {
  if (n_bytes > n_left_) {
    fail(ErrorKind::bad_model, "{}: the list of tensors would take more than the {} MiB of memory allowed",
         printable(file), kLimit >> 20);
  }
  n_left_ -= n_bytes;
}

std::vector<SafetensorsTensor> read_file(std::span<const std::byte> file, std::string_view name,
                                         MemoryBudget& budget) {
  uint64_t n_header = 0;
  if (file.size() < sizeof n_header) {
    fail(ErrorKind::bad_model, "{}: expected a safetensors file, found only {} bytes", printable(name),
         file.size());
  }
  std::memcpy(&n_header, file.data(), sizeof n_header);
  const auto rest = file.subspan(sizeof n_header);
  if (n_header > kMaxHeaderBytes || n_header > rest.size()) {
    fail(ErrorKind::bad_model,
         "{}: no safetensors file, or cut off: expected a header of {} bytes, the file has {} and at most {} "
         "are allowed",
         printable(name), n_header, rest.size(), kMaxHeaderBytes);
  }
  const std::string_view header(reinterpret_cast<const char*>(rest.data()), n_header);
  if (!header.starts_with('{')) {
    fail(ErrorKind::bad_model, "{}: expected a safetensors header that begins with a brace, found \"{}\"",
         printable(name), printable(header, 8));
  }
  HeaderReader reader(rest.subspan(n_header), name, budget);
  read_json_events(header, fmt::format("the header of {}", name), reader, ErrorKind::bad_model,
                   {.max_depth = kMaxDepth});
  return reader.take();
}

}  // namespace millrace::safetensors
