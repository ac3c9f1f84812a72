// Iteration, lazy as in Python: a filter such as map or select runs only as far as somebody asks.
#pragma once

#include <optional>
#include <utility>

#include "text/jinja/value.h"

namespace millrace::jinja {

class Interpreter;
struct ForStmt;
struct Scope;

class Iterator : public Object {
 public:
  // False at the end, and from then on. Charges a step; throws RenderError when iterators that read each
  // other nest too deeply.
  bool next(Interpreter& interpreter, Value& item);

 private:
  virtual bool advance(Interpreter& interpreter, Value& item) = 0;
};

// An iterator made of a function: bool(Interpreter&, Value& item).
template <class Next>
class Generator final : public Iterator {
 public:
  explicit Generator(Next function) : function_(std::move(function)) {}
  void release_children() override { function_.reset(); }
  size_t n_bytes() const override { return sizeof(*this); }

 private:
  bool advance(Interpreter& interpreter, Value& item) override {
    if (function_ && (*function_)(interpreter, item)) return true;
    function_.reset();
    return false;
  }

  std::optional<Next> function_;
};

template <class Next>
Ref<Iterator> generate(Heap& heap, Next next) {
  return Ref<Iterator>(heap.make<Generator<Next>>(std::move(next)));
}
template <class Next>
Value make_generator(Heap& heap, Next next) {
  return Value(Kind::iterator, generate(heap, std::move(next)).get());
}

bool is_iterable(const Value& value);
// iter(value). Throws RenderError where the value is not iterable.
Ref<Iterator> iterate(Interpreter& interpreter, const Value& value);
// list(value).
Values to_values(Interpreter& interpreter, const Value& value);

// The variable `loop`.
struct Loop final : Object {
  void release_children() override;
  size_t n_bytes() const override { return sizeof(*this); }

  bool advance(Interpreter& interpreter, Value& item);
  const Value& peek(Interpreter& interpreter);  // the next item; missing at the end
  int64_t count(Interpreter& interpreter);      // of all items
  // Missing where there is no such attribute.
  Value attribute(Interpreter& interpreter, std::string_view name);

  Ref<Iterator> items{};
  int64_t index0 = -1;
  int64_t n_items = -1;  // not known yet
  int64_t depth0 = 0;
  Value before{}, current{}, after{};
  Value last_changed{};                // the arguments of changed(), a tuple
  const ForStmt* statement = nullptr;  // of a recursive loop
  Ref<Scope> scope;                    // around that statement

  Loop();
  ~Loop() override;
};

}  // namespace millrace::jinja
