#include "text/jinja/filters.h"

#include <algorithm>
#include <unordered_map>

#include "text/jinja/operators.h"
#include "text/jinja/py_string.h"

namespace millrace::jinja {

Builtin find_filter(std::string_view name) {
  static const auto* const kFilters = [] {
    auto* filters = new std::unordered_map<std::string_view, Builtin>();
    for (const auto& table : {text_filters(), number_filters(), sequence_filters(), select_filters()}) {
      for (const NamedBuiltin& filter : table) filters->emplace(filter.name, filter.builtin);
    }
    return filters;
  }();
  const auto found = kFilters->find(name);
  return found == kFilters->end() ? nullptr : found->second;
}

bool is_given(const Value& value) { return !value.is_missing() && !value.is_none(); }

KeyPath::KeyPath(Interpreter& in, const Value& attribute, bool ignores_case, Value fallback)
    : ignores_case_(ignores_case), fallback_(std::move(fallback)) {
  if (!is_given(attribute)) return;
  if (!attribute.is_string()) {
    parts_.push_back(attribute);
    return;
  }
  const std::string_view path = text_of(attribute);
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    const bool is_index = !part.empty() && part.size() < 18 &&
                          std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
    parts_.push_back(is_index ? Value(int64_t{std::stoll(std::string(part))})
                              : make_string(in.heap(), std::string(part)));
    begin = end + 1;
  }
}

Value KeyPath::operator()(Interpreter& in, Value item) const {
  for (const Value& part : parts_) {
    item = get_item(in, item, part);
    if (item.is_undefined() && is_given(fallback_)) item = fallback_;
  }
  if (!ignores_case_ || !item.is_string()) return item;
  return make_string(in.heap(), to_lower(text_of(item)));
}

Values sort_by(Interpreter& in, Values items, const std::function<Value(const Value&)>& key,
               bool is_reversed) {
  std::vector<std::pair<Value, size_t>> keys;
  keys.reserve(items.size());
  for (const Value& item : items) keys.emplace_back(key(item), keys.size());
  // Reversed, equal items keep their order too.
  std::ranges::stable_sort(keys, [&](const auto& a, const auto& b) {
    return is_reversed ? is_less(in.heap(), b.first, a.first) : is_less(in.heap(), a.first, b.first);
  });
  Values sorted;
  sorted.reserve(items.size());
  for (const auto& [unused, index] : keys) sorted.push_back(items[index]);
  return sorted;
}

}  // namespace millrace::jinja
