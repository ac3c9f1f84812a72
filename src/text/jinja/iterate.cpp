#include "text/jinja/iterate.h"

#include "text/jinja/interpreter.h"

namespace millrace::jinja {
namespace {

// A list may shrink while it is read.
Ref<Iterator> iterate_sequence(Heap& heap, const Value& value) {
  return generate(heap, [value, at = size_t{0}](Interpreter&, Value& item) mutable {
    const Values& items = value.as<Sequence>().items;
    if (at >= items.size()) return false;
    item = items[at++];
    return true;
  });
}

Ref<Iterator> iterate_dict(Heap& heap, const Value& value, DictView::Part part) {
  return generate(heap, [value, part, at = size_t{0}](Interpreter& interpreter, Value& item) mutable {
    const std::vector<Dict::Entry>& entries = value.as<Dict>().entries();
    if (at >= entries.size()) return false;
    const auto& [key, content] = entries[at++];
    switch (part) {
      case DictView::Part::keys:
        item = key;
        break;
      case DictView::Part::values:
        item = content;
        break;
      case DictView::Part::items:
        item = make_tuple(interpreter.heap(), {key, content});
        break;
    }
    return true;
  });
}

Ref<Iterator> iterate_string(Heap& heap, const Value& value) {
  return generate(heap, [value, at = size_t{0}](Interpreter& interpreter, Value& item) mutable {
    const std::string& text = text_of(value);
    if (at >= text.size()) return false;
    size_t end = at + 1;
    while (end < text.size() && (text[end] & 0xc0) == 0x80) ++end;
    item = make_string(interpreter.heap(), text.substr(at, end - at));  // of markup too
    at = end;
    return true;
  });
}

Ref<Iterator> iterate_range(Heap& heap, const Range& range) {
  return generate(
      heap, [next = range.start, step = range.step, n = range.size()](Interpreter&, Value& item) mutable {
        if (n <= 0) return false;
        item = Value(next);
        if (--n > 0) next += step;
        return true;
      });
}

}  // namespace

bool Iterator::next(Interpreter& interpreter, Value& item) {
  const Interpreter::Level level(interpreter);
  interpreter.heap().step();
  return advance(interpreter, item);
}

bool is_iterable(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
    case Kind::string:
    case Kind::list:
    case Kind::tuple:
    case Kind::dict:
    case Kind::dict_view:
    case Kind::range:
    case Kind::iterator:
    case Kind::loop:
      return true;
    default:
      return false;
  }
}

Ref<Iterator> iterate(Interpreter& interpreter, const Value& value) {
  Heap& heap = interpreter.heap();
  switch (value.kind()) {
    case Kind::undefined:
      return generate(heap, [](Interpreter&, Value&) { return false; });
    case Kind::string:
      return iterate_string(heap, value);
    case Kind::list:
    case Kind::tuple:
      return iterate_sequence(heap, value);
    case Kind::dict:
      return iterate_dict(heap, value, DictView::Part::keys);
    case Kind::dict_view:
      return iterate_dict(heap, value.as<DictView>().dict, value.as<DictView>().part);
    case Kind::range:
      return iterate_range(heap, value.as<Range>());
    case Kind::iterator:
      return Ref<Iterator>(&value.as<Iterator>());
    case Kind::loop:
      return generate(heap, [value](Interpreter& in, Value& item) {
        Value next;
        if (!value.as<Loop>().advance(in, next)) return false;
        item = make_tuple(in.heap(), {std::move(next), value});
        return true;
      });
    default:
      raise("'{}' object is not iterable", type_name(value));
  }
}

Values to_values(Interpreter& interpreter, const Value& value) {
  Values values;
  const Ref<Iterator> items = iterate(interpreter, value);
  for (Value item; items->next(interpreter, item);) {
    interpreter.heap().expect_room((values.size() + 1) * sizeof(Value));
    values.push_back(std::move(item));
  }
  return values;
}

Loop::Loop() = default;
Loop::~Loop() = default;

void Loop::release_children() {
  items.reset();
  before = current = after = last_changed = Value();
  scope.reset();
}

bool Loop::advance(Interpreter& interpreter, Value& item) {
  if (peek(interpreter).is_missing()) return false;
  ++index0;
  before = std::exchange(current, std::exchange(after, Value()));
  item = current;
  return true;
}

const Value& Loop::peek(Interpreter& interpreter) {
  if (after.is_missing() && items && !items->next(interpreter, after)) after = Value();
  return after;
}

int64_t Loop::count(Interpreter& interpreter) {
  if (n_items >= 0) return n_items;
  const Value rest =
      make_list(interpreter.heap(), to_values(interpreter, Value(Kind::iterator, items.get())));
  items = iterate(interpreter, rest);
  n_items = length_of(rest) + index0 + 1 + (after.is_missing() ? 0 : 1);
  return n_items;
}

Value Loop::attribute(Interpreter& interpreter, std::string_view name) {
  if (name == "index") return Value(index0 + 1);
  if (name == "index0") return Value(index0);
  if (name == "first") return Value(index0 == 0);
  if (name == "last") return Value(peek(interpreter).is_missing());
  if (name == "length") return Value(count(interpreter));
  if (name == "revindex") return Value(count(interpreter) - index0);
  if (name == "revindex0") return Value(count(interpreter) - index0 - 1);
  if (name == "depth") return Value(depth0 + 1);
  if (name == "depth0") return Value(depth0);
  if (name == "previtem") {
    return index0 == 0 ? make_undefined(interpreter.heap(), "there is no previous item") : before;
  }
  if (name == "nextitem") {
    const Value& next = peek(interpreter);
    return next.is_missing() ? make_undefined(interpreter.heap(), "there is no next item") : next;
  }
  return Value();
}

}  // namespace millrace::jinja
