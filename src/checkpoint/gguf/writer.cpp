// Writes GGUF files. Metadata has lost the widths that a file gave its integers, and other readers insist on
// some: type_of() and element_type_of() hold what they expect.
#include <algorithm>
#include <bit>
#include <limits>
#include <string>

#include "base/file.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf/layout.h"

namespace millrace {
namespace gguf {
namespace {

template <class T>
bool all_fit(std::span<const int64_t> values) {
  return std::ranges::all_of(values, [](int64_t value) {
    return value >= int64_t{std::numeric_limits<T>::min()} && value <= int64_t{std::numeric_limits<T>::max()};
  });
}

ValueType type_of(std::string_view key, int64_t value) {
  if (key == "general.parameter_count") return ValueType::u64;
  if (all_fit<uint32_t>({&value, 1})) return ValueType::u32;
  return all_fit<int32_t>({&value, 1}) ? ValueType::i32 : ValueType::i64;
}

ValueType element_type_of(std::string_view key, std::span<const int64_t> values) {
  if (key.ends_with(".precompiled_charsmap")) {
    if (all_fit<uint8_t>(values)) return ValueType::u8;
    if (all_fit<int8_t>(values)) return ValueType::i8;
  }
  if (all_fit<int32_t>(values)) return ValueType::i32;
  return all_fit<uint32_t>(values) ? ValueType::u32 : ValueType::i64;
}

// float32 where nothing is lost.
ValueType type_of(std::span<const double> values) {
  const bool fit = std::ranges::all_of(values, [](double value) {
    return value != value || static_cast<double>(static_cast<float>(value)) == value;
  });
  return fit ? ValueType::f32 : ValueType::f64;
}

// Header, metadata and tensor list, put together in memory.
class Head {
 public:
  template <class T>
  void put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void put(std::string_view text) {
    put<uint64_t>(text.size());
    bytes_ += text;
  }
  void pad(uint64_t alignment) { bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment); }
  void put_magic() { bytes_ += kMagic; }

  void put_entry(const std::string& key, const MetaValue& value) {
    put(std::string_view(key));
    std::visit([&](const auto& held) { put_value(key, held); }, value);
  }

  const std::string& bytes() const { return bytes_; }

 private:
  void put_type(ValueType type) { put(static_cast<uint32_t>(type)); }

  template <class T>
  void put_number(ValueType type, T value) {
    with_number_type(type, [&](auto zero) { put(static_cast<decltype(zero)>(value)); });
  }

  void begin_array(ValueType type, size_t n) {
    put_type(ValueType::array);
    put_type(type);
    put<uint64_t>(n);
  }

  void put_value(std::string_view, bool value) {
    put_type(ValueType::boolean);
    put<uint8_t>(value ? 1 : 0);
  }
  void put_value(std::string_view key, int64_t value) {
    put_type(type_of(key, value));
    put_number(type_of(key, value), value);
  }
  void put_value(std::string_view, double value) {
    put_type(type_of({&value, 1}));
    put_number(type_of({&value, 1}), value);
  }
  void put_value(std::string_view, std::string_view value) {
    put_type(ValueType::string);
    put(value);
  }
  void put_value(std::string_view, const std::vector<bool>& values) {
    begin_array(ValueType::boolean, values.size());
    for (const bool value : values) put<uint8_t>(value ? 1 : 0);
  }
  void put_value(std::string_view key, const std::vector<int64_t>& values) {
    const ValueType type = element_type_of(key, values);
    begin_array(type, values.size());
    for (const int64_t value : values) put_number(type, value);
  }
  void put_value(std::string_view, const std::vector<double>& values) {
    const ValueType type = type_of(values);
    begin_array(type, values.size());
    for (const double value : values) put_number(type, value);
  }
  void put_value(std::string_view, const std::vector<std::string_view>& values) {
    begin_array(ValueType::string, values.size());
    for (const std::string_view value : values) put(value);
  }

  std::string bytes_;
};

bool is_written(std::string_view key) { return !key.starts_with("split."); }

uint64_t padded(uint64_t n, uint64_t alignment) { return (n + alignment - 1) / alignment * alignment; }

std::string head_of(const GgufToWrite& model, uint64_t alignment) {
  Head head;
  const auto entries = model.metadata.entries();
  const auto n_entries =
      std::ranges::count_if(entries, [](const auto& entry) { return is_written(entry.first); });
  head.put_magic();
  head.put(kVersion);
  head.put<uint64_t>(model.tensors.size());
  head.put<uint64_t>(n_entries);
  for (const auto& [key, value] : entries) {
    if (is_written(key)) head.put_entry(key, value);
  }
  uint64_t offset = 0;
  for (const auto& [name, tensor] : model.tensors) {
    head.put(std::string_view(name));
    head.put(static_cast<uint32_t>(tensor.n_dims));
    for (int i = tensor.n_dims - 1; i >= 0; --i) head.put<uint64_t>(tensor.shape[i]);
    check(format_of(tensor.dtype).ggml_type != kNoGgmlType, "a tensor in a format that GGUF has not");
    head.put(format_of(tensor.dtype).ggml_type);
    head.put(offset);
    offset += padded(tensor.n_bytes(), alignment);
  }
  head.pad(alignment);
  return head.bytes();
}

int64_t n_tensor_bytes(std::span<const NamedTensor> tensors, uint64_t alignment) {
  uint64_t n = 0;
  for (const auto& [name, tensor] : tensors) n += padded(tensor.n_bytes(), alignment);
  return static_cast<int64_t>(n);
}

void write_tensors(AtomicFile& file, const GgufToWrite& model, uint64_t alignment, const Progress& progress) {
  const int64_t n_total = n_tensor_bytes(model.tensors, alignment);
  int64_t n_done = 0;
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const auto bytes = model.bytes_of(i);
    check(static_cast<int64_t>(bytes.size()) == model.tensors[i].tensor.n_bytes(),
          "a tensor to write lends as many bytes as its shape needs");
    file.write(bytes);
    const uint64_t n_padded = padded(bytes.size(), alignment);
    file.write(std::string(n_padded - bytes.size(), '\0'));
    n_done += static_cast<int64_t>(n_padded);
    if (progress) progress(n_done, n_total);
  }
}

}  // namespace
}  // namespace gguf

void write_gguf(const std::filesystem::path& path, const GgufToWrite& model, const Progress& progress) {
  const auto alignment =
      static_cast<uint64_t>(model.metadata.get_or<int64_t>(gguf::kAlignmentKey, gguf::kDefaultAlignment));
  check(std::has_single_bit(alignment), "the alignment of a file to write is a power of two");
  const std::string head = gguf::head_of(model, alignment);
  const auto n_data = static_cast<uint64_t>(gguf::n_tensor_bytes(model.tensors, alignment));
  AtomicFile file(path, head.size() + n_data);
  file.write(head);
  gguf::write_tensors(file, model, alignment, progress);
  file.commit();
}

void write_gguf(const std::filesystem::path& path, const Checkpoint& checkpoint, const Progress& progress) {
  const auto bytes_of = [&checkpoint](size_t i) -> std::span<const std::byte> {
    const Tensor& tensor = checkpoint.tensors()[i].tensor;
    return {tensor.data, static_cast<size_t>(tensor.n_bytes())};
  };
  write_gguf(path, {.metadata = checkpoint.metadata(), .tensors = checkpoint.tensors(), .bytes_of = bytes_of},
             progress);
}

}  // namespace millrace
