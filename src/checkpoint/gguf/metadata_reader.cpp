#include <bit>
#include <string>

#include "checkpoint/gguf/layout.h"
#include "checkpoint/gguf/parts.h"

namespace millrace::gguf {
namespace {

constexpr size_t kMinEntryBytes = 8 + 1 + 4 + 1;  // a key of one byte with a value of one
// What an entry takes in memory beside its key and its value: the pair, and the node of the index.
constexpr size_t kEntryMemory = sizeof(std::pair<std::string, MetaValue>) + 96;
constexpr uint32_t kMinAlignment = 8;  // the format's own rule, and what float kernels need
constexpr uint32_t kMaxAlignment = 1u << 24;

class EntryReader {
 public:
  explicit EntryReader(ByteReader& in) : in_(in) {}

  void read_into(Metadata& metadata) {
    key_ = in_.string("a metadata key");
    if (key_.empty()) in_.refuse("a metadata key is empty (at byte {})", in_.at());
    if (key_.size() > kMaxKeyBytes) {
      in_.refuse("a metadata key has {} bytes, more than the {} allowed", key_.size(), kMaxKeyBytes);
    }
    in_.take_memory(kEntryMemory + 2 * key_.size());
    const auto type = in_.read<ValueType>("the type of a value");
    MetaValue value = type == ValueType::array ? read_array() : read_scalar(type);
    if (key_ == kAlignmentKey) check_alignment(type, value);
    metadata.add(std::string(key_), std::move(value));
  }

 private:
  MetaValue read_scalar(ValueType type) {
    if (type == ValueType::string) return in_.string("a string");
    if (type == ValueType::boolean) return checked_bool(in_.read<uint8_t>("a boolean"));
    MetaValue value;
    const bool is_number =
        with_number_type(type, [&](auto zero) { value = checked(in_.read<decltype(zero)>("a number")); });
    if (!is_number) refuse_type(type);
    return value;
  }

  MetaValue read_array() {
    const auto type = in_.read<ValueType>("the type of an array");
    const auto n = in_.read<uint64_t>("the length of an array");
    if (type == ValueType::string) return read_strings(n);
    if (type == ValueType::boolean) return read_bools(n);
    if (type == ValueType::array) in_.refuse("the value of \"{}\" is an array of arrays", printable(key_));
    MetaValue value;
    if (!with_number_type(type, [&](auto zero) { value = read_numbers<decltype(zero)>(n); }))
      refuse_type(type);
    return value;
  }

  template <class Stored>
  auto read_numbers(uint64_t n) {
    using T = decltype(checked(Stored{}));
    in_.need(n, sizeof(Stored), "numbers of an array");
    in_.take_memory(n * sizeof(T));
    std::vector<T> values(n);
    for (T& value : values) value = checked(in_.read<Stored>("a number of an array"));
    return values;
  }

  std::vector<bool> read_bools(uint64_t n) {
    const auto stored = in_.bytes(n, "booleans of an array");
    in_.take_memory(n / 8);
    std::vector<bool> values(n);
    for (uint64_t i = 0; i < n; ++i) values[i] = checked_bool(std::to_integer<uint8_t>(stored[i]));
    return values;
  }

  std::vector<std::string_view> read_strings(uint64_t n) {
    in_.need(n, sizeof(uint64_t), "strings of an array");
    in_.take_memory(n * sizeof(std::string_view));
    std::vector<std::string_view> values(n);
    for (std::string_view& value : values) value = in_.string("a string of an array");
    return values;
  }

  template <class Stored>
  auto checked(Stored value) const {
    if constexpr (std::is_floating_point_v<Stored>) {
      return double{value};
    } else {
      if (std::is_same_v<Stored, uint64_t> && value > Stored(INT64_MAX)) {
        in_.refuse("the value of \"{}\" is {}, above 2^63 - 1", printable(key_), value);
      }
      return static_cast<int64_t>(value);
    }
  }

  bool checked_bool(uint8_t value) const {
    if (value > 1)
      in_.refuse("the value of \"{}\" is a boolean of {}, neither 0 nor 1", printable(key_), value);
    return value == 1;
  }

  void check_alignment(ValueType type, const MetaValue& value) const {
    if (type != ValueType::u32) {
      in_.refuse("expected {} to be of type 4 (u32), found type {}", kAlignmentKey,
                 static_cast<uint32_t>(type));
    }
    const auto alignment = static_cast<uint64_t>(std::get<int64_t>(value));
    if (!std::has_single_bit(alignment) || alignment < kMinAlignment || alignment > kMaxAlignment) {
      in_.refuse("expected {} to be a power of two from {} to {}, found {}", kAlignmentKey, kMinAlignment,
                 kMaxAlignment, alignment);
    }
  }

  [[noreturn]] void refuse_type(ValueType type) const {
    in_.refuse("the value of \"{}\" has the unknown type {}", printable(key_), static_cast<uint32_t>(type));
  }

  ByteReader& in_;
  std::string_view key_;
};

}  // namespace

Metadata read_metadata(ByteReader& in, uint64_t n_entries) {
  in.need(n_entries, kMinEntryBytes, "metadata entries");
  Metadata metadata;
  EntryReader reader(in);
  for (uint64_t i = 0; i < n_entries; ++i) reader.read_into(metadata);
  return metadata;
}

}  // namespace millrace::gguf
