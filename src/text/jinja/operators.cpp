#include "text/jinja/operators.h"

#include <algorithm>
#include <cmath>

#include "text/jinja/format.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/py_string.h"

namespace millrace::jinja {
namespace {

constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};

[[noreturn]] void raise_operands(Operator op, const Value& left, const Value& right) {
  if (left.is_undefined()) raise_undefined(left);
  if (right.is_undefined()) raise_undefined(right);
  if (op == Operator::add && left.is_string()) {
    raise("can only concatenate str (not \"{}\") to str", type_name(right));
  }
  raise("unsupported operand types for {}: '{}' and '{}'", kSymbols[static_cast<size_t>(op)], type_name(left),
        type_name(right));
}

[[noreturn]] void raise_overflow() { raise("an integer leaves the 64 bits that this engine computes with"); }

int64_t floor_quotient(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Value integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) raise("0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  while (true) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) raise_overflow();
    exponent >>= 1;
    if (exponent == 0) return Value(result);
    if (__builtin_mul_overflow(base, base, &base)) raise_overflow();
  }
}

Value apply_integers(Operator op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool is_over = false;
  switch (op) {
    case Operator::add:
      is_over = __builtin_add_overflow(a, b, &result);
      break;
    case Operator::subtract:
      is_over = __builtin_sub_overflow(a, b, &result);
      break;
    case Operator::multiply:
      is_over = __builtin_mul_overflow(a, b, &result);
      break;
    case Operator::divide:
      if (b == 0) raise("division by zero");
      return Value(static_cast<double>(a) / static_cast<double>(b));
    case Operator::floor_divide:
      if (b == 0) raise("integer division or modulo by zero");
      is_over = a == INT64_MIN && b == -1;
      if (!is_over) result = floor_quotient(a, b);
      break;
    case Operator::modulo:
      if (b == 0) raise("integer division or modulo by zero");
      result = b == -1 ? 0 : a - floor_quotient(a, b) * b;
      break;
    case Operator::power:
      return integer_power(a, b);
  }
  if (is_over) raise_overflow();
  return Value(result);
}

// As CPython computes them: the remainder has the sign of the divisor, the quotient is a whole number.
double real_modulo(double a, double b) {
  double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  if ((b < 0) != (rest < 0)) rest += b;
  return rest;
}

double real_floor_quotient(double a, double b) {
  const double quotient = (a - real_modulo(a, b)) / b;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

double real_power(double a, double b) {
  if (a == 0 && b < 0) raise("0.0 cannot be raised to a negative power");
  if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) {
    raise("a negative number to a broken power is no real number");
  }
  const double result = std::pow(a, b);
  if (std::isinf(result) && std::isfinite(a) && std::isfinite(b)) raise("the result of ** is too large");
  return result;
}

Value apply_reals(Operator op, double a, double b) {
  if (b == 0 && (op == Operator::divide || op == Operator::floor_divide || op == Operator::modulo)) {
    raise("float division by zero");
  }
  switch (op) {
    case Operator::add:
      return Value(a + b);
    case Operator::subtract:
      return Value(a - b);
    case Operator::multiply:
      return Value(a * b);
    case Operator::divide:
      return Value(a / b);
    case Operator::floor_divide:
      return Value(real_floor_quotient(a, b));
    case Operator::modulo:
      return Value(real_modulo(a, b));
    case Operator::power:
      return Value(real_power(a, b));
  }
  return Value();
}

Value join_strings(Heap& heap, const Value& left, const Value& right) {
  const bool is_safe = is_markup(left) || is_markup(right);
  const auto part = [&](const Value& value) {
    return is_safe && !is_markup(value) ? html_escape(text_of(value)) : text_of(value);
  };
  heap.expect_room(text_of(left).size() + text_of(right).size());
  if (!is_safe) return make_string(heap, text_of(left) + text_of(right));
  return make_string(heap, part(left) + part(right), true);
}

Value join_sequences(Heap& heap, const Value& left, const Value& right) {
  const Values& a = left.as<Sequence>().items;
  const Values& b = right.as<Sequence>().items;
  heap.step(a.size() + b.size());
  heap.expect_room((a.size() + b.size()) * sizeof(Value));
  Values items = a;
  items.insert(items.end(), b.begin(), b.end());
  return Value(left.kind(), heap.make<Sequence>(std::move(items)));
}

Value repeat(Heap& heap, const Value& value, int64_t times) {
  const size_t n = times < 0 ? 0 : static_cast<size_t>(times);
  const auto size =
      value.is_string() ? text_of(value).size() : value.as<Sequence>().items.size() * sizeof(Value);
  size_t n_bytes = 0;
  if (__builtin_mul_overflow(size, n, &n_bytes)) n_bytes = SIZE_MAX;
  heap.expect_room(n_bytes);
  heap.step_bytes(n_bytes);
  if (size == 0 || n == 0) {
    return value.is_string() ? make_string(heap, "", is_markup(value))
                             : Value(value.kind(), heap.make<Sequence>(Values()));
  }
  if (value.is_string()) {
    std::string text;
    text.reserve(n_bytes);
    for (size_t i = 0; i < n; ++i) text += text_of(value);
    return make_string(heap, std::move(text), is_markup(value));
  }
  Values items;
  items.reserve(n_bytes / sizeof(Value));
  const Values& once = value.as<Sequence>().items;
  for (size_t i = 0; i < n; ++i) items.insert(items.end(), once.begin(), once.end());
  return Value(value.kind(), heap.make<Sequence>(std::move(items)));
}

bool can_repeat(const Value& value) { return value.is_string() || value.is_sequence(); }

bool is_open(const Value& bound) { return bound.is_missing() || bound.is_none(); }

// A bound of a slice: negative ones count from the end, and all are clipped to [low, high].
int64_t resolve_bound(const Value& bound, int64_t open, int64_t size, int64_t low, int64_t high) {
  if (is_open(bound)) return open;
  const int64_t at = bound.integer();
  return std::clamp(at < 0 ? at + size : at, low, high);
}

// The indices that a slice takes. The bounds are integers or open.
Range resolve_slice(int64_t size, const Value& start, const Value& stop, const Value& step) {
  const int64_t by = is_open(step) ? 1 : std::max(step.integer(), INT64_MIN + 1);
  if (by == 0) raise("slice step cannot be zero");
  const int64_t low = by > 0 ? 0 : -1;
  const int64_t high = by > 0 ? size : size - 1;
  return {resolve_bound(start, by > 0 ? low : high, size, low, high),
          resolve_bound(stop, by > 0 ? high : low, size, low, high), by};
}

Value slice_string(Heap& heap, const Value& value, const Range& range) {
  const String& string = value.as<String>();
  heap.step_bytes(string.text.size());
  if (range.step == 1) {
    if (range.start >= range.stop) return make_string(heap, "", string.is_markup);
    const auto start = static_cast<size_t>(range.start);
    const auto stop = static_cast<size_t>(range.stop);
    const size_t begin = string.is_ascii() ? start : byte_of_char(string.text, start);
    const std::string_view rest = std::string_view(string.text).substr(begin);
    const size_t n_bytes = string.is_ascii() ? stop - start : byte_of_char(rest, stop - start);
    return make_string(heap, std::string(rest.substr(0, n_bytes)), string.is_markup);
  }
  std::vector<size_t> begins;  // of the characters, and the end
  for (size_t i = 0; i <= string.text.size(); ++i) {
    if (i == string.text.size() || (string.text[i] & 0xc0) != 0x80) begins.push_back(i);
  }
  std::string text;
  int64_t at = range.start;
  for (int64_t i = range.size(); i > 0; --i) {
    const auto c = static_cast<size_t>(at);
    text.append(string.text, begins[c], begins[c + 1] - begins[c]);
    if (i > 1) at += range.step;
  }
  return make_string(heap, std::move(text), string.is_markup);
}

bool contains_string(Interpreter& in, const Value& container, const Value& item) {
  if (item.is_undefined()) raise_undefined(item);
  if (!item.is_string()) raise("'in <string>' requires string as left operand, not {}", type_name(item));
  in.heap().step_bytes(text_of(container).size());
  return find_text(text_of(container), text_of(item)) != std::string::npos;
}

}  // namespace

Value apply(Interpreter& in, Operator op, const Value& left, const Value& right) {
  Heap& heap = in.heap();
  if (left.is_integral() && right.is_integral()) return apply_integers(op, left.integer(), right.integer());
  if (left.is_number() && right.is_number()) return apply_reals(op, left.real(), right.real());
  if (op == Operator::add) {
    if (left.is_string() && right.is_string()) return join_strings(heap, left, right);
    if (left.is_sequence() && left.kind() == right.kind()) return join_sequences(heap, left, right);
  }
  if (op == Operator::multiply) {
    if (can_repeat(left) && right.is_integral()) return repeat(heap, left, right.integer());
    if (can_repeat(right) && left.is_integral()) return repeat(heap, right, left.integer());
  }
  if (op == Operator::modulo && left.is_string()) return format_printf(heap, left, right);
  raise_operands(op, left, right);
}

Value negate(const Value& value, bool is_negative) {
  if (value.is_undefined()) raise_undefined(value);
  if (value.is(Kind::real)) return Value(is_negative ? -value.real() : value.real());
  if (!value.is_integral()) raise("bad operand type for unary sign: '{}'", type_name(value));
  if (is_negative && value.integer() == INT64_MIN) raise_overflow();
  return Value(is_negative ? -value.integer() : value.integer());
}

bool compare(Interpreter& in, Comparison comparison, const Value& left, const Value& right) {
  Heap& heap = in.heap();
  // Not `!(b < a)`: every comparison with NaN is false.
  const auto is_less_or_equal = [&](const Value& a, const Value& b) {
    return is_less(heap, a, b) || is_equal(heap, a, b);
  };
  switch (comparison) {
    case Comparison::equal:
      return is_equal(heap, left, right);
    case Comparison::not_equal:
      return !is_equal(heap, left, right);
    case Comparison::less:
      return is_less(heap, left, right);
    case Comparison::less_equal:
      return is_less_or_equal(left, right);
    case Comparison::greater:
      return is_less(heap, right, left);
    case Comparison::greater_equal:
      return is_less_or_equal(right, left);
    case Comparison::in:
      return contains(in, right, left);
    case Comparison::not_in:
      return !contains(in, right, left);
  }
  return false;
}

bool contains(Interpreter& in, const Value& container, const Value& item) {
  if (container.is_string()) return contains_string(in, container, item);
  if (container.is(Kind::dict)) return container.as<Dict>().find(in.heap(), item) != nullptr;
  if (container.is(Kind::dict_view) && container.as<DictView>().part == DictView::Part::keys) {
    return contains(in, container.as<DictView>().dict, item);
  }
  if (!is_iterable(container)) raise("argument of type '{}' is not iterable", type_name(container));
  const Ref<Iterator> items = iterate(in, container);
  for (Value other; items->next(in, other);) {
    if (is_equal(in.heap(), other, item)) return true;
  }
  return false;
}

Value slice(Interpreter& in, const Value& value, const Value& start, const Value& stop, const Value& step) {
  Heap& heap = in.heap();
  if (value.is_undefined()) raise_undefined(value);
  if (!value.is_string() && !value.is_sequence() && !value.is(Kind::range)) {
    raise("'{}' object has no slices", type_name(value));
  }
  for (const Value* bound : {&start, &stop, &step}) {
    if (!is_open(*bound) && !bound->is_integral()) {
      raise("slice indices must be integers or None, not '{}'", type_name(*bound));
    }
  }
  const Range range = resolve_slice(length_of(value), start, stop, step);
  if (value.is_string()) return slice_string(heap, value, range);
  if (value.is(Kind::range)) {
    const Range& whole = value.as<Range>();
    int64_t by = 0;
    if (__builtin_mul_overflow(whole.step, range.step, &by)) raise_overflow();
    return Value(Kind::range, heap.make<Range>(whole.at(range.start), whole.at(range.stop), by));
  }
  Values items;
  int64_t at = range.start;
  for (int64_t i = range.size(); i > 0; --i) {
    heap.step();
    items.push_back(value.as<Sequence>().items[static_cast<size_t>(at)]);
    if (i > 1) at += range.step;
  }
  return Value(value.kind(), heap.make<Sequence>(std::move(items)));
}

}  // namespace millrace::jinja
