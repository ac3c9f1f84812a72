// The values of a template: Python's, as far as a chat template can see them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/error.h"
#include "text/jinja/heap.h"

namespace millrace::jinja {

enum class Kind : uint8_t {
  missing,  // no value at all: an argument that was not given
  undefined,
  none,
  boolean,
  integer,
  real,
  // From here on: an object.
  string,
  list,
  tuple,
  dict,
  dict_view,
  range,
  iterator,
  nspace,
  macro,
  method,
  function,
  loop,
  cycler,
  joiner,
};

// Two words, cheap to copy. Objects are shared, as in Python.
class Value {
 public:
  Value() = default;
  explicit Value(bool value) : kind_(Kind::boolean) { as_.boolean = value; }
  explicit Value(int64_t value) : kind_(Kind::integer) { as_.integer = value; }
  explicit Value(double value) : kind_(Kind::real) { as_.real = value; }
  Value(Kind kind, Object* object) : kind_(kind) {
    as_.object = object;
    object->retain();
  }
  Value(const Value& other) : kind_(other.kind_), as_(other.as_) {
    if (has_object()) as_.object->retain();
  }
  Value(Value&& other) noexcept : kind_(std::exchange(other.kind_, Kind::missing)), as_(other.as_) {}
  Value& operator=(Value other) noexcept {
    std::swap(kind_, other.kind_);
    std::swap(as_, other.as_);
    return *this;
  }
  ~Value() {
    if (has_object()) as_.object->release();
  }
  static Value none() {
    Value value;
    value.kind_ = Kind::none;
    return value;
  }

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_missing() const { return kind_ == Kind::missing; }
  bool is_undefined() const { return kind_ == Kind::undefined; }
  bool is_none() const { return kind_ == Kind::none; }
  bool is_string() const { return kind_ == Kind::string; }
  bool is_sequence() const { return kind_ == Kind::list || kind_ == Kind::tuple; }
  bool is_integral() const { return kind_ == Kind::integer || kind_ == Kind::boolean; }  // Python's int
  bool is_number() const { return is_integral() || kind_ == Kind::real; }

  bool boolean() const { return as_.boolean; }
  int64_t integer() const { return kind_ == Kind::boolean ? int64_t{as_.boolean} : as_.integer; }
  double real() const { return kind_ == Kind::real ? as_.real : static_cast<double>(integer()); }
  Object* object() const { return as_.object; }
  // The object, which the caller knows to be a T.
  template <class T>
  T& as() const {
    return *static_cast<T*>(as_.object);
  }

 private:
  bool has_object() const { return kind_ >= Kind::string || kind_ == Kind::undefined; }

  Kind kind_ = Kind::missing;
  union {
    bool boolean;
    int64_t integer;
    double real;
    Object* object;
  } as_{.object = nullptr};
};

using Values = std::vector<Value>;

// Why a value is undefined: said when something is done with it that needs a value.
struct Undefined final : Object {
  explicit Undefined(std::string text) : why(std::move(text)) {}
  size_t n_bytes() const override { return sizeof(*this) + why.size(); }
  std::string why;
};

// Valid UTF-8. `is_markup`: came from the filter safe or escape; what is added to it is HTML-escaped.
struct String final : Object {
  String(std::string value, bool markup);
  size_t n_bytes() const override { return sizeof(*this) + text.size(); }
  bool is_ascii() const { return n_chars == text.size(); }
  std::string text;
  size_t n_chars;
  bool is_markup;
};

// A list or a tuple. Templates can shrink a list (pop, clear), never extend one.
struct Sequence final : Object {
  explicit Sequence(Values values, bool group = false)
      : items(std::move(values)), n_items(items.size()), is_group(group) {}
  void release_children() override { items.clear(); }
  size_t n_bytes() const override { return sizeof(*this) + n_items * sizeof(Value); }
  Values items;
  size_t n_items;  // at creation
  bool is_group;   // of the filter groupby: has .grouper and .list
};

// In the order of insertion. Never changes once it is filled.
class Dict final : public Object {
 public:
  using Entry = std::pair<Value, Value>;

  explicit Dict(size_t n_expected) : n_expected_(n_expected) { entries_.reserve(n_expected); }
  void release_children() override { entries_.clear(); }
  size_t n_bytes() const override {
    return sizeof(*this) + n_expected_ * (sizeof(Entry) + 2 * sizeof(uint32_t));
  }

  // Replaces the value of an equal key. At most `n_expected` keys. Throws RenderError for an unhashable key.
  void set(Heap& heap, Value key, Value value);
  const Value* find(Heap& heap, const Value& key) const;
  const Value* find(Heap& heap, std::string_view key) const;
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  // Larger dicts find keys through slots_; smaller ones look at each.
  static constexpr size_t kSlotsFrom = 9;

  template <class Equal>
  const Entry* find_if(Heap& heap, uint64_t hash, const Equal& equal) const;
  void place(uint64_t hash, uint32_t entry);

  size_t n_expected_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_{};  // open addressing; entry + 1, or 0
};

struct DictView final : Object {
  enum class Part { keys, values, items };
  DictView(Value of, Part which) : dict(std::move(of)), part(which) {}
  void release_children() override { dict = Value(); }
  size_t n_bytes() const override { return sizeof(*this); }
  Value dict;
  Part part;
};

struct Range final : Object {
  Range(int64_t from, int64_t to, int64_t by) : start(from), stop(to), step(by) {}
  size_t n_bytes() const override { return sizeof(*this); }
  int64_t size() const;
  int64_t at(int64_t index) const;  // start + index * step
  int64_t start, stop, step;
};

// namespace(): the only thing a template may write to.
struct Namespace final : Object {
  Namespace() = default;
  void release_children() override { attributes.clear(); }
  size_t n_bytes() const override { return sizeof(*this); }
  Value* find(std::string_view name);
  std::vector<std::pair<Value, Value>> attributes{};  // names are strings
};

struct Cycler final : Object {
  explicit Cycler(Values values) : items(std::move(values)), n_items(items.size()) {}
  void release_children() override { items.clear(); }
  size_t n_bytes() const override { return sizeof(*this) + n_items * sizeof(Value); }
  Values items;
  size_t n_items;
  size_t at = 0;
};

struct Joiner final : Object {
  explicit Joiner(Value text) : separator(std::move(text)) {}
  void release_children() override { separator = Value(); }
  size_t n_bytes() const override { return sizeof(*this); }
  Value separator;
  bool is_used = false;
};

Value make_string(Heap& heap, std::string text, bool is_markup = false);
Value make_list(Heap& heap, Values items);
Value make_tuple(Heap& heap, Values items);
Value make_undefined(Heap& heap, std::string why);

inline const std::string& text_of(const Value& string) { return string.as<String>().text; }
inline bool is_markup(const Value& value) { return value.is_string() && value.as<String>().is_markup; }

// Python's name of the type: "str", "NoneType".
std::string_view type_name(const Value& value);
bool is_true(Heap& heap, const Value& value);
bool is_equal(Heap& heap, const Value& a, const Value& b);
bool is_same(const Value& a, const Value& b);  // Python's `is`
// a < b. Throws RenderError where Python has no order.
bool is_less(Heap& heap, const Value& a, const Value& b);
uint64_t hash_of(Heap& heap, const Value& value);
// len(value), or -1 where it has none.
int64_t length_of(const Value& value);
// Whatever walks values calls this on the way down: they may nest as deep as a template likes.
void check_nesting(int depth);
[[noreturn]] void raise_undefined(const Value& value);

}  // namespace millrace::jinja
