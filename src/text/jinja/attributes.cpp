// object.name and object[index], as the sandbox of Jinja resolves them.
#include "base/error.h"
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/py_string.h"

namespace millrace::jinja {
namespace {

// What is there besides items: methods, attributes of loops and namespaces. Missing where there is none.
Value find_attribute(Interpreter& in, const Value& object, const Value& name) {
  Heap& heap = in.heap();
  const std::string& text = text_of(name);
  if (const Method* method = find_method(object.kind(), text)) {
    if (!method->is_forbidden) {
      return Value(Kind::method, heap.make<BoundBuiltin>(object, method->builtin));
    }
    return make_undefined(
        heap, fmt::format("access to attribute '{}' of '{}' object is unsafe.", text, type_name(object)));
  }
  switch (object.kind()) {
    case Kind::nspace: {
      const Value* value = object.as<Namespace>().find(text);
      return value == nullptr ? Value() : *value;
    }
    case Kind::loop:
      return object.as<Loop>().attribute(in, text);
    case Kind::tuple:
      if (object.as<Sequence>().is_group && (text == "grouper" || text == "list")) {
        return object.as<Sequence>().items[text == "list" ? 1 : 0];
      }
      return Value();
    case Kind::cycler:
      return text == "current" ? object.as<Cycler>().items[object.as<Cycler>().at] : Value();
    case Kind::macro:
      return text == "name" ? make_string(heap, object.as<Macro>().code->name) : Value();
    default:
      return Value();
  }
}

Value no_attribute(Interpreter& in, const Value& object, const Value& name) {
  const std::string_view type = object.is_none() ? "None" : type_name(object);
  return make_undefined(in.heap(), fmt::format("'{}{}' has no attribute '{}'", type,
                                               object.is_none() ? "" : " object", printable(text_of(name))));
}

Value char_at(Heap& heap, const Value& value, size_t index) {
  const String& string = value.as<String>();
  if (!string.is_ascii()) heap.step_bytes(string.text.size());
  const size_t begin = string.is_ascii() ? index : byte_of_char(string.text, index);
  const std::string_view rest = std::string_view(string.text).substr(begin);
  return make_string(heap, std::string(rest.substr(0, byte_of_char(rest, 1))), string.is_markup);
}

// The element of a sequence at an index, which may count from the end. Missing where there is none.
Value element_at(Interpreter& in, const Value& object, const Value& index) {
  const int64_t size = length_of(object);
  int64_t at = index.integer();
  if (at < 0) at += size;
  if (at < 0 || at >= size) return Value();
  switch (object.kind()) {
    case Kind::string:
      return char_at(in.heap(), object, static_cast<size_t>(at));
    case Kind::range:
      return Value(object.as<Range>().at(at));
    default:
      return object.as<Sequence>().items[static_cast<size_t>(at)];
  }
}

Value find_item(Interpreter& in, const Value& object, const Value& index) {
  if (object.is(Kind::dict)) {
    // An unhashable index is, like one that is not there, no item.
    if (index.is(Kind::list) || index.is(Kind::dict)) return Value();
    const Value* value = object.as<Dict>().find(in.heap(), index);
    return value == nullptr ? Value() : *value;
  }
  const bool has_index = object.is_string() || object.is_sequence() || object.is(Kind::range);
  return has_index && index.is_integral() ? element_at(in, object, index) : Value();
}

}  // namespace

Value get_attribute(Interpreter& in, const Value& object, const Value& name) {
  if (object.is_undefined()) raise_undefined(object);
  Value value = find_attribute(in, object, name);
  if (value.is_missing()) value = find_item(in, object, name);
  return value.is_missing() ? no_attribute(in, object, name) : value;
}

Value get_item(Interpreter& in, const Value& object, const Value& index) {
  if (object.is_undefined()) raise_undefined(object);
  Value value = find_item(in, object, index);
  if (!value.is_missing()) return value;
  if (!index.is_string()) {
    return make_undefined(
        in.heap(), fmt::format("{} has no such element", object.is_none() ? "None" : type_name(object)));
  }
  value = find_attribute(in, object, index);
  return value.is_missing() ? no_attribute(in, object, index) : value;
}

}  // namespace millrace::jinja
