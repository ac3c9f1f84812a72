#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "text/jinja/ast.h"
#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace millrace::jinja {
namespace {

template <class F>
class Lambda final : public Expression {
 public:
  explicit Lambda(F f) : f_(std::move(f)) {}
  Value eval(Context& context) const override {
    context.step();
    const Context::Depth depth(context);
    return f_(context);
  }

 private:
  F f_;
};
template <class F>
ExpressionPtr lambda(F f) {
  return std::make_unique<Lambda<F>>(std::move(f));
}

class Name final : public Expression {
 public:
  explicit Name(std::string name) : name_(std::move(name)) {}
  Value eval(Context& context) const override {
    context.step();
    const Value* value = context.find(name_);
    return value != nullptr ? *value : Value(Undefined{name_});
  }
  std::string_view name() const override { return name_; }

 private:
  std::string name_;
};

[[noreturn]] void refuse(std::string_view op, const Value& a, const Value& b) {
  for (const Value* value : {&a, &b}) {
    if (value->is_undefined()) throw RenderError(fmt::format("'{}' is undefined", value->undefined_name()));
  }
  throw RenderError(
      fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", op, a.type_name(), b.type_name()));
}

Value checked(bool overflows, int64_t value) {
  if (overflows) throw RenderError("an integer is too large");
  return value;
}

Value repeated(Context& context, const Value& value, int64_t n) {
  n = std::max<int64_t>(n, 0);
  if (value.is_string()) {
    const std::string& text = value.text();
    if (n > 0 && text.size() > Context::kMaxBytes / static_cast<size_t>(n)) context.expect_room(SIZE_MAX);
    context.expect_room(text.size() * static_cast<size_t>(n));
    std::string out;
    for (int64_t i = 0; i < n; ++i) out += text;
    return out;
  }
  const Values& items = value.items();
  if (n > 0 && items.size() > Context::kMaxBytes / 64 / static_cast<size_t>(n)) context.expect_room(SIZE_MAX);
  context.step(static_cast<int64_t>(items.size()) * n);
  Values out;
  for (int64_t i = 0; i < n; ++i) out.insert(out.end(), items.begin(), items.end());
  return Value::list(std::move(out), value.type_name() == "tuple");
}

Value add(Context& context, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    int64_t sum = 0;
    const bool overflows = __builtin_add_overflow(a.integer(), b.integer(), &sum);
    return checked(overflows, sum);
  }
  if (a.is_number() && b.is_number()) return a.real() + b.real();
  if (a.is_string() && b.is_string()) {
    context.expect_room(a.text().size() + b.text().size());
    if (!a.is_markup() && !b.is_markup()) return a.text() + b.text();
    const auto escaped = [](const Value& value) {
      return value.is_markup() ? value.text() : html_escaped(value.text());
    };
    return Value::markup(escaped(a) + escaped(b));
  }
  if (a.is_list() && b.is_list() && !a.is_generator() && a.type_name() == b.type_name()) {
    context.step(static_cast<int64_t>(a.items().size() + b.items().size()));
    Values items = a.items();
    items.insert(items.end(), b.items().begin(), b.items().end());
    return Value::list(std::move(items), a.type_name() == "tuple");
  }
  refuse("+", a, b);
}

Value multiply(Context& context, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    int64_t product = 0;
    const bool overflows = __builtin_mul_overflow(a.integer(), b.integer(), &product);
    return checked(overflows, product);
  }
  if (a.is_number() && b.is_number()) return a.real() * b.real();
  if ((a.is_string() || a.is_list()) && b.is_integral()) return repeated(context, a, b.integer());
  if ((b.is_string() || b.is_list()) && a.is_integral()) return repeated(context, b, a.integer());
  refuse("*", a, b);
}

// Division and remainder round towards minus infinity.
Value divide(std::string_view op, const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) refuse(op, a, b);
  if (b.real() == 0.0) throw RenderError("division by zero");
  if (op == "/") return a.real() / b.real();
  if (a.is_integral() && b.is_integral()) {
    const int64_t x = a.integer(), y = b.integer();
    if (y == -1) return op == "//" ? checked(x == INT64_MIN, x == INT64_MIN ? 0 : -x) : Value(int64_t{0});
    const bool is_inexact = x % y != 0 && (x < 0) != (y < 0);
    return op == "//" ? x / y - (is_inexact ? 1 : 0) : x % y + (is_inexact ? y : 0);
  }
  const double quotient = std::floor(a.real() / b.real());
  return op == "//" ? quotient : a.real() - quotient * b.real();
}

Value power(const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) refuse("**", a, b);
  if (!a.is_integral() || !b.is_integral() || b.integer() < 0) return std::pow(a.real(), b.real());
  int64_t result = 1;
  const int64_t base = a.integer();
  for (int64_t i = 0; i < b.integer() && (base > 1 || base < -1); ++i) {
    if (__builtin_mul_overflow(result, base, &result)) throw RenderError("an integer is too large");
  }
  if (base == 0) return int64_t{b.integer() == 0 ? 1 : 0};
  if (base == -1) return int64_t{b.integer() % 2 == 0 ? 1 : -1};
  return result;
}

// "..." % value(s): the conversions s d i f x r and %%.
Value format_percent(Context& context, const Value& format, const Value& values) {
  Filter filter = find_filter("format");
  const bool is_tuple = values.is_list() && values.type_name() == "tuple";
  return filter(context, format, {.positional = is_tuple ? values.items() : Values{values}});
}

Value binary(Context& context, std::string_view op, const Value& a, const Value& b) {
  if (op == "+") return add(context, a, b);
  if (op == "*") return multiply(context, a, b);
  if (op == "**") return power(a, b);
  if (op == "%" && a.is_string()) return format_percent(context, a, b);
  if (op == "~") {
    std::string left = a.str(), right = b.str();
    context.expect_room(left.size() + right.size());
    return left + right;
  }
  if (op != "-") return divide(op, a, b);
  if (a.is_integral() && b.is_integral()) {
    int64_t difference = 0;
    const bool overflows = __builtin_sub_overflow(a.integer(), b.integer(), &difference);
    return checked(overflows, difference);
  }
  if (!a.is_number() || !b.is_number()) refuse(op, a, b);
  return a.real() - b.real();
}

bool compare(Context& context, std::string_view op, const Value& a, const Value& b) {
  context.step();
  if (op == "==") return is_equal(a, b);
  if (op == "!=") return !is_equal(a, b);
  if (op == "<") return is_less(a, b);
  if (op == ">") return is_less(b, a);
  if (op == "<=") return is_less(a, b) || is_equal(a, b);
  if (op == ">=") return is_less(b, a) || is_equal(a, b);
  return contains(b, a) == (op == "in");
}

// The indices of a slice of n items, as Python counts them.
std::vector<int64_t> slice_indices(int64_t n, const Value& begin, const Value& end, const Value& by) {
  const int64_t step = by.is_none() ? 1 : by.integer();
  if (step == 0) throw RenderError("slice step cannot be zero");
  const auto bound = [&](const Value& value, int64_t otherwise) {
    if (value.is_none()) return otherwise;
    const int64_t i = value.integer() < 0 ? value.integer() + n : value.integer();
    return step > 0 ? std::clamp<int64_t>(i, 0, n) : std::clamp<int64_t>(i, -1, n - 1);
  };
  const int64_t first = bound(begin, step > 0 ? 0 : n - 1), last = bound(end, step > 0 ? n : -1);
  std::vector<int64_t> out;
  for (int64_t i = first; step > 0 ? i < last : i > last;) {
    out.push_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return out;
}

Value slice(Context& context, const Value& object, const Value& begin, const Value& end, const Value& step) {
  if (object.is_undefined()) throw RenderError(fmt::format("'{}' is undefined", object.undefined_name()));
  if (object.is_string()) {
    const std::vector<std::string_view> all = characters(object.text());
    context.step(static_cast<int64_t>(all.size() / 16));
    std::string out;
    for (const int64_t i : slice_indices(static_cast<int64_t>(all.size()), begin, end, step))
      out += all[static_cast<size_t>(i)];
    return out;
  }
  const Values& all = object.items();
  context.step(static_cast<int64_t>(all.size() / 16));
  Values out;
  for (const int64_t i : slice_indices(static_cast<int64_t>(all.size()), begin, end, step))
    out.push_back(all[static_cast<size_t>(i)]);
  return Value::list(std::move(out), object.type_name() == "tuple");
}

}  // namespace

Arguments CallArguments::eval(Context& context) const {
  Arguments out;
  for (const ExpressionPtr& each : positional) out.positional.push_back(each->eval(context));
  for (const auto& [name, each] : named) out.named.emplace_back(name, each->eval(context));
  if (spread != nullptr) {
    for (Value& value : iterate(spread->eval(context))) out.positional.push_back(std::move(value));
  }
  if (spread_named != nullptr) {
    for (const auto& [key, value] : spread_named->eval(context).dict().entries)
      out.named.emplace_back(key.text(), value);
  }
  return out;
}

ExpressionPtr make_literal(Value value) {
  return lambda([value = std::move(value)](Context&) { return value; });
}

ExpressionPtr make_name(std::string name) { return std::make_unique<Name>(std::move(name)); }

ExpressionPtr make_list(std::vector<ExpressionPtr> items, bool is_tuple) {
  return lambda([items = std::move(items), is_tuple](Context& context) {
    Values out;
    for (const ExpressionPtr& item : items) out.push_back(item->eval(context));
    return Value::list(std::move(out), is_tuple);
  });
}

ExpressionPtr make_dict(std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries) {
  return lambda([entries = std::move(entries)](Context& context) -> Value {
    auto dict = std::make_shared<Dict>();
    for (const auto& [key, value] : entries) {
      const Value evaluated = key->eval(context);
      dict->set(evaluated, value->eval(context));
    }
    return dict;
  });
}

ExpressionPtr make_unary(std::string op, ExpressionPtr operand) {
  return lambda([op = std::move(op), operand = std::move(operand)](Context& context) -> Value {
    const Value value = operand->eval(context);
    if (op == "not") return !value.is_true();
    if (op == "+") return value.is_integral() ? Value(value.integer()) : Value(value.real());
    if (!value.is_integral()) return -value.real();
    return checked(value.integer() == INT64_MIN, value.integer() == INT64_MIN ? 0 : -value.integer());
  });
}

ExpressionPtr make_binary(std::string op, ExpressionPtr left, ExpressionPtr right) {
  return lambda([op = std::move(op), left = std::move(left), right = std::move(right)](Context& context) {
    const Value a = left->eval(context);
    if (op == "and") return a.is_true() ? right->eval(context) : a;
    if (op == "or") return a.is_true() ? a : right->eval(context);
    return binary(context, op, a, right->eval(context));
  });
}

ExpressionPtr make_comparison(ExpressionPtr first, std::vector<std::pair<std::string, ExpressionPtr>> rest) {
  return lambda([first = std::move(first), rest = std::move(rest)](Context& context) -> Value {
    Value left = first->eval(context);
    for (const auto& [op, each] : rest) {
      Value right = each->eval(context);
      if (!compare(context, op, left, right)) return false;
      left = std::move(right);
    }
    return true;
  });
}

ExpressionPtr make_condition(ExpressionPtr test, ExpressionPtr then, ExpressionPtr otherwise) {
  return lambda([test = std::move(test), then = std::move(then),
                 otherwise = std::move(otherwise)](Context& context) -> Value {
    if (test->eval(context).is_true()) return then->eval(context);
    return otherwise != nullptr ? otherwise->eval(context)
                                : Value(Undefined{"the inline if-expression without else"});
  });
}

ExpressionPtr make_attribute(ExpressionPtr object, std::string name) {
  return lambda([object = std::move(object), name = std::move(name)](Context& context) {
    return attribute_of(context, object->eval(context), name);
  });
}

ExpressionPtr make_index(ExpressionPtr object, ExpressionPtr index) {
  return lambda([object = std::move(object), index = std::move(index)](Context& context) {
    const Value evaluated = object->eval(context);
    return item_of(context, evaluated, index->eval(context));
  });
}

ExpressionPtr make_slice(ExpressionPtr object, ExpressionPtr begin, ExpressionPtr end, ExpressionPtr step) {
  return lambda([object = std::move(object), begin = std::move(begin), end = std::move(end),
                 step = std::move(step)](Context& context) {
    const auto part = [&](const ExpressionPtr& each) {
      return each != nullptr ? each->eval(context) : Value();
    };
    const Value evaluated = object->eval(context);
    return slice(context, evaluated, part(begin), part(end), part(step));
  });
}

ExpressionPtr make_call(ExpressionPtr callee, CallArguments arguments) {
  return lambda([callee = std::move(callee), arguments = std::move(arguments)](Context& context) {
    Value function = callee->eval(context);
    if (const Value* loop = function.is_dict() ? function.dict().find(std::string_view("%call")) : nullptr)
      function = Value(*loop);  // a recursive loop
    return function.function().call(arguments.eval(context));
  });
}

ExpressionPtr make_filter(ExpressionPtr input, std::string name, CallArguments arguments) {
  const Filter filter = find_filter(name);
  if (filter == nullptr) {  // an error only where it is reached, as in Jinja
    return lambda([name = std::move(name)](Context&) -> Value {
      throw RenderError(fmt::format("No filter named '{}' found.", name));
    });
  }
  return lambda([input = std::move(input), filter, arguments = std::move(arguments)](Context& context) {
    const Value value = input->eval(context);
    return filter(context, value, arguments.eval(context));
  });
}

ExpressionPtr make_test(ExpressionPtr input, std::string name, CallArguments arguments, bool is_negated) {
  const Test test = find_test(name);
  if (test == nullptr) {
    return lambda([name = std::move(name)](Context&) -> Value {
      throw RenderError(fmt::format("No test named '{}' found.", name));
    });
  }
  return lambda([input = std::move(input), test, arguments = std::move(arguments),
                 is_negated](Context& context) -> Value {
    const Value value = input->eval(context);
    return test(context, value, arguments.eval(context)) != is_negated;
  });
}

}  // namespace millrace::jinja
