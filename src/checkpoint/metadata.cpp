// Typed reading of metadata. Writers disagree about widths and about integers for floats; readers must not.
#include "checkpoint/checkpoint.h"

namespace millrace {
namespace {

template <class T>
constexpr const char* kTypeName = nullptr;
template <>
constexpr const char* kTypeName<bool> = "a boolean";
template <>
constexpr const char* kTypeName<int64_t> = "an integer";
template <>
constexpr const char* kTypeName<double> = "a number";
template <>
constexpr const char* kTypeName<std::string_view> = "a string";
template <>
constexpr const char* kTypeName<std::vector<bool>> = "an array of booleans";
template <>
constexpr const char* kTypeName<std::vector<int64_t>> = "an array of integers";
template <>
constexpr const char* kTypeName<std::vector<double>> = "an array of numbers";
template <>
constexpr const char* kTypeName<std::vector<std::string_view>> = "an array of strings";

template <class T>
constexpr bool kIsArray = false;
template <class T>
constexpr bool kIsArray<std::vector<T>> = true;

const char* type_name(const MetaValue& value) {
  return std::visit([]<class T>(const T&) { return kTypeName<T>; }, value);
}

bool is_empty_array(const MetaValue& value) {
  return std::visit(
      []<class T>(const T& held) {
        if constexpr (kIsArray<T>) return held.empty();
        return false;
      },
      value);
}

// The value as T, or nothing where it is of another type.
template <class T>
std::optional<T> convert(const MetaValue& value) {
  if (const T* held = std::get_if<T>(&value)) return *held;
  if constexpr (std::is_same_v<T, double>) {
    if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
  }
  if constexpr (std::is_same_v<T, std::vector<double>>) {
    if (const auto* integers = std::get_if<std::vector<int64_t>>(&value)) {
      return T(integers->begin(), integers->end());
    }
  }
  if constexpr (kIsArray<T>) {
    if (is_empty_array(value)) return T();
  }
  return std::nullopt;
}

}  // namespace

void Metadata::add(std::string key, MetaValue value) {
  if (!by_key_.emplace(key, entries_.size()).second) {
    fail(ErrorKind::bad_model, "the metadata key \"{}\" occurs twice", printable(key));
  }
  entries_.emplace_back(std::move(key), std::move(value));
}

const MetaValue* Metadata::find(std::string_view key) const {
  const auto at = by_key_.find(key);
  return at == by_key_.end() ? nullptr : &entries_[at->second].second;
}

template <class T>
std::optional<T> Metadata::get(std::string_view key) const {
  const MetaValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (std::optional<T> converted = convert<T>(*value)) return converted;
  fail(ErrorKind::bad_model, "expected {} under the metadata key \"{}\", found {}", kTypeName<T>,
       printable(key), type_name(*value));
}

template <class T>
T Metadata::need(std::string_view key) const {
  if (std::optional<T> value = get<T>(key)) return *std::move(value);
  fail(ErrorKind::bad_model, "expected {} under the metadata key \"{}\", found no such key", kTypeName<T>,
       printable(key));
}

#define MILLRACE_METADATA_TYPE(T)                                     \
  template std::optional<T> Metadata::get<T>(std::string_view) const; \
  template T Metadata::need<T>(std::string_view) const;

MILLRACE_METADATA_TYPE(bool)
MILLRACE_METADATA_TYPE(int64_t)
MILLRACE_METADATA_TYPE(double)
MILLRACE_METADATA_TYPE(std::string_view)
MILLRACE_METADATA_TYPE(std::vector<bool>)
MILLRACE_METADATA_TYPE(std::vector<int64_t>)
MILLRACE_METADATA_TYPE(std::vector<double>)
MILLRACE_METADATA_TYPE(std::vector<std::string_view>)

}  // namespace millrace
