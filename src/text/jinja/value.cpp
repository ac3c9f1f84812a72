#include "text/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "text/jinja/py_string.h"

namespace millrace::jinja {
namespace {

bool is_equal_number(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
  if (a.is(Kind::real) && b.is(Kind::real)) return a.real() == b.real();
  const double real = a.is(Kind::real) ? a.real() : b.real();
  const int64_t integer = a.is(Kind::real) ? b.integer() : a.integer();
  // Both ways: 2^63 as a double is no int64.
  return static_cast<double>(integer) == real && real < 0x1p63 && static_cast<int64_t>(real) == integer;
}

bool is_equal_at(Heap& heap, const Value& a, const Value& b, int depth);

bool is_equal_sequence(Heap& heap, const Values& a, const Values& b, int depth) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!is_equal_at(heap, a[i], b[i], depth)) return false;
  }
  return true;
}

bool is_equal_dict(Heap& heap, const Dict& a, const Dict& b, int depth) {
  if (a.entries().size() != b.entries().size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(heap, key);
    if (other == nullptr || !is_equal_at(heap, value, *other, depth)) return false;
  }
  return true;
}

bool is_equal_range(const Range& a, const Range& b) {
  if (a.size() != b.size()) return false;
  return a.size() == 0 || (a.start == b.start && (a.size() == 1 || a.step == b.step));
}

bool is_equal_at(Heap& heap, const Value& a, const Value& b, int depth) {
  heap.step();
  check_nesting(depth);
  if (a.is_number() && b.is_number()) return is_equal_number(a, b);
  if (a.kind() != b.kind()) return false;
  if (a.kind() < Kind::string) return true;  // undefined, none
  if (a.object() == b.object()) return true;
  switch (a.kind()) {
    case Kind::string:
      heap.step_bytes(text_of(a).size());
      return text_of(a) == text_of(b);
    case Kind::list:
    case Kind::tuple:
      return is_equal_sequence(heap, a.as<Sequence>().items, b.as<Sequence>().items, depth + 1);
    case Kind::dict:
      return is_equal_dict(heap, a.as<Dict>(), b.as<Dict>(), depth + 1);
    case Kind::range:
      return is_equal_range(a.as<Range>(), b.as<Range>());
    default:
      return false;
  }
}

bool is_less_number(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() < b.integer();
  return a.real() < b.real();
}

bool is_less_at(Heap& heap, const Value& a, const Value& b, int depth) {
  heap.step();
  check_nesting(depth);
  if (a.is_number() && b.is_number()) return is_less_number(a, b);
  if (a.is_string() && b.is_string()) {
    heap.step_bytes(std::min(text_of(a).size(), text_of(b).size()));
    return text_of(a) < text_of(b);  // the order of bytes is the order of code points
  }
  if (a.is_undefined()) raise_undefined(a);
  if (b.is_undefined()) raise_undefined(b);
  if (!a.is_sequence() || a.kind() != b.kind()) {
    raise("'<' not supported between instances of '{}' and '{}'", type_name(a), type_name(b));
  }
  const Values& left = a.as<Sequence>().items;
  const Values& right = b.as<Sequence>().items;
  for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
    if (!is_equal_at(heap, left[i], right[i], depth + 1))
      return is_less_at(heap, left[i], right[i], depth + 1);
  }
  return left.size() < right.size();
}

uint64_t mix(uint64_t hash, uint64_t next) { return (hash ^ next) * 0x9e3779b97f4a7c15u; }

uint64_t hash_string(Heap& heap, std::string_view text) {
  heap.step_bytes(text.size());
  return std::hash<std::string_view>()(text);
}

uint64_t hash_at(Heap& heap, const Value& value, int depth) {
  heap.step();
  check_nesting(depth);
  switch (value.kind()) {
    case Kind::boolean:
    case Kind::integer:
      return mix(1, std::hash<double>()(static_cast<double>(value.integer())));
    case Kind::real:
      return mix(1, std::hash<double>()(value.real()));
    case Kind::string:
      return hash_string(heap, text_of(value));
    case Kind::tuple: {
      uint64_t hash = 2;
      for (const Value& item : value.as<Sequence>().items) hash = mix(hash, hash_at(heap, item, depth + 1));
      return hash;
    }
    case Kind::list:
    case Kind::dict:
      raise("unhashable type: '{}'", type_name(value));
    case Kind::missing:
    case Kind::undefined:
    case Kind::none:
      return static_cast<uint64_t>(value.kind());
    default:
      return std::hash<const void*>()(value.object());
  }
}

}  // namespace

String::String(std::string value, bool markup)
    : text(std::move(value)), n_chars(count_chars(text)), is_markup(markup) {}

int64_t Range::size() const {
  if (step > 0 ? start >= stop : start <= stop) return 0;
  const auto distance = step > 0 ? static_cast<uint64_t>(stop) - static_cast<uint64_t>(start)
                                 : static_cast<uint64_t>(start) - static_cast<uint64_t>(stop);
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  const uint64_t size = (distance - 1) / stride + 1;
  return size > INT64_MAX ? INT64_MAX : static_cast<int64_t>(size);
}

int64_t Range::at(int64_t index) const {
  int64_t value = 0;
  if (__builtin_mul_overflow(index, step, &value) || __builtin_add_overflow(start, value, &value)) {
    raise("a range leaves the 64 bits that this engine computes with");
  }
  return value;
}

Value* Namespace::find(std::string_view name) {
  for (auto& [key, value] : attributes) {
    if (text_of(key) == name) return &value;
  }
  return nullptr;
}

template <class Equal>
const Dict::Entry* Dict::find_if(Heap& heap, uint64_t hash, const Equal& equal) const {
  for (size_t at = hash;; ++at) {
    heap.step();
    const uint32_t slot = slots_[at & (slots_.size() - 1)];
    if (slot == 0) return nullptr;
    if (equal(entries_[slot - 1].first)) return &entries_[slot - 1];
  }
}

void Dict::place(uint64_t hash, uint32_t entry) {
  size_t at = hash & (slots_.size() - 1);
  while (slots_[at] != 0) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = entry + 1;
}

const Value* Dict::find(Heap& heap, const Value& key) const {
  if (key.is_string()) return find(heap, text_of(key));
  const uint64_t hash = hash_of(heap, key);  // also of a small dict: an unhashable key is an error
  const auto equal = [&](const Value& other) { return is_equal(heap, key, other); };
  if (!slots_.empty()) {
    const Entry* entry = find_if(heap, hash, equal);
    return entry == nullptr ? nullptr : &entry->second;
  }
  for (const auto& [other, value] : entries_) {
    if (equal(other)) return &value;
  }
  return nullptr;
}

const Value* Dict::find(Heap& heap, std::string_view key) const {
  const auto equal = [&](const Value& other) { return other.is_string() && text_of(other) == key; };
  if (!slots_.empty()) {
    const Entry* entry = find_if(heap, hash_string(heap, key), equal);
    return entry == nullptr ? nullptr : &entry->second;
  }
  for (const auto& [other, value] : entries_) {
    if (equal(other)) return &value;
  }
  return nullptr;
}

void Dict::set(Heap& heap, Value key, Value value) {
  if (const Value* known = find(heap, key)) {
    *const_cast<Value*>(known) = std::move(value);
    return;
  }
  if (slots_.empty() && n_expected_ >= kSlotsFrom) {
    size_t n_slots = 16;
    while (n_slots < 2 * n_expected_) n_slots *= 2;
    slots_.resize(n_slots);
  }
  if (!slots_.empty()) place(hash_of(heap, key), static_cast<uint32_t>(entries_.size()));
  entries_.emplace_back(std::move(key), std::move(value));
}

Value make_string(Heap& heap, std::string text, bool is_markup) {
  heap.step_bytes(text.size());
  return Value(Kind::string, heap.make<String>(std::move(text), is_markup));
}

Value make_list(Heap& heap, Values items) { return Value(Kind::list, heap.make<Sequence>(std::move(items))); }

Value make_tuple(Heap& heap, Values items) {
  return Value(Kind::tuple, heap.make<Sequence>(std::move(items)));
}

Value make_undefined(Heap& heap, std::string why) {
  return Value(Kind::undefined, heap.make<Undefined>(std::move(why)));
}

std::string_view type_name(const Value& value) {
  constexpr std::string_view kNames[] = {"missing",   "Undefined", "NoneType",    "bool",      "int",
                                         "float",     "str",       "list",        "tuple",     "dict",
                                         "dict_view", "range",     "generator",   "Namespace", "Macro",
                                         "method",    "function",  "LoopContext", "Cycler",    "Joiner"};
  return kNames[static_cast<size_t>(value.kind())];
}

bool is_true(Heap& heap, const Value& value) {
  heap.step();
  switch (value.kind()) {
    case Kind::missing:
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
      return value.boolean();
    case Kind::integer:
      return value.integer() != 0;
    case Kind::real:
      return value.real() != 0;
    default:
      return length_of(value) != 0;
  }
}

bool is_equal(Heap& heap, const Value& a, const Value& b) { return is_equal_at(heap, a, b, 0); }

bool is_same(const Value& a, const Value& b) {
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::missing:
    case Kind::none:
      return true;
    case Kind::boolean:
    case Kind::integer:
      return a.integer() == b.integer();
    case Kind::real:
      return a.real() == b.real();
    default:
      return a.object() == b.object();
  }
}

bool is_less(Heap& heap, const Value& a, const Value& b) { return is_less_at(heap, a, b, 0); }

uint64_t hash_of(Heap& heap, const Value& value) { return hash_at(heap, value, 0); }

int64_t length_of(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return 0;
    case Kind::string:
      return static_cast<int64_t>(value.as<String>().n_chars);
    case Kind::list:
    case Kind::tuple:
      return static_cast<int64_t>(value.as<Sequence>().items.size());
    case Kind::dict:
      return static_cast<int64_t>(value.as<Dict>().entries().size());
    case Kind::dict_view:
      return length_of(value.as<DictView>().dict);
    case Kind::range:
      return value.as<Range>().size();
    default:
      return -1;
  }
}

void check_nesting(int depth) {
  constexpr int kMaxNesting = 200;
  if (depth > kMaxNesting) raise("a value nests deeper than the {} levels allowed", kMaxNesting);
}

void raise_undefined(const Value& value) { throw RenderError(value.as<Undefined>().why); }

}  // namespace millrace::jinja
