// The tests: what stands after `is`.
#include <algorithm>
#include <unordered_map>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/py_string.h"
#include "text/jinja/py_text.h"

namespace millrace::jinja {
namespace {

template <bool (*kHolds)(const Value&)>
Value test_value(Interpreter&, Call& call) {
  call.expect_none("the test");
  return Value(kHolds(call.self));
}

bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_undefined(const Value& value) { return value.is_undefined(); }
bool is_none(const Value& value) { return value.is_none(); }
bool is_boolean(const Value& value) { return value.is(Kind::boolean); }
bool is_the_true(const Value& value) { return value.is(Kind::boolean) && value.boolean(); }
bool is_the_false(const Value& value) { return value.is(Kind::boolean) && !value.boolean(); }
bool is_integer(const Value& value) { return value.is(Kind::integer); }
bool is_float(const Value& value) { return value.is(Kind::real); }
bool is_number(const Value& value) { return value.is_number(); }
bool is_string(const Value& value) { return value.is_string(); }
bool is_mapping(const Value& value) { return value.is(Kind::dict); }
bool is_escaped(const Value& value) { return is_markup(value); }
bool is_sequence(const Value& value) {
  return value.is_string() || value.is_sequence() || value.is(Kind::dict) || value.is(Kind::range) ||
         value.is_undefined();
}
bool is_callable(const Value& value) {
  // Undefined defines __call__, to raise from it.
  return value.is(Kind::macro) || value.is(Kind::method) || value.is(Kind::function) ||
         value.is(Kind::loop) || value.is(Kind::joiner) || value.is_undefined();
}

// str.islower, str.isupper: has a cased character, and none of the other case.
bool is_of_case(std::string_view text, bool (*is_case)(uint32_t), bool (*is_other)(uint32_t)) {
  bool has_case = false;
  for (uint32_t c : code_points(text)) {
    if (is_other(c) || is_title(c)) return false;
    has_case |= is_case(c);
  }
  return has_case;
}

Value test_lower(Interpreter& in, Call& call) {
  call.expect_none("lower");
  return Value(is_of_case(to_str(in.heap(), call.self), is_lower, is_upper));
}

Value test_upper(Interpreter& in, Call& call) {
  call.expect_none("upper");
  return Value(is_of_case(to_str(in.heap(), call.self), is_upper, is_lower));
}

bool has_remainder(Interpreter& in, const Value& value, int64_t by, int64_t remainder) {
  const Value rest = apply(in, Operator::modulo, value, Value(by));
  return is_equal(in.heap(), rest, Value(remainder));
}

Value test_odd(Interpreter& in, Call& call) {
  call.expect_none("odd");
  return Value(has_remainder(in, call.self, 2, 1));
}

Value test_even(Interpreter& in, Call& call) {
  call.expect_none("even");
  return Value(has_remainder(in, call.self, 2, 0));
}

Value test_divisibleby(Interpreter& in, Call& call) {
  const auto [by] = call.bind("divisibleby", {"num"}, 1);
  return Value(is_equal(in.heap(), apply(in, Operator::modulo, call.self, by), Value(int64_t{0})));
}

template <Comparison kComparison>
Value test_compare(Interpreter& in, Call& call) {
  const auto [other] = call.bind("the test", {""}, 1);
  return Value(compare(in, kComparison, call.self, other));
}

Value test_in(Interpreter& in, Call& call) {
  const auto [container] = call.bind("in", {"seq"}, 1);
  return Value(contains(in, container, call.self));
}

Value test_sameas(Interpreter&, Call& call) {
  const auto [other] = call.bind("sameas", {"other"}, 1);
  return Value(is_same(call.self, other));
}

Value test_filter(Interpreter&, Call& call) {
  call.expect_none("filter");
  return Value(call.self.is_string() && find_filter(text_of(call.self)) != nullptr);
}

Value test_test(Interpreter&, Call& call) {
  call.expect_none("test");
  return Value(call.self.is_string() && find_test(text_of(call.self)) != nullptr);
}

constexpr NamedBuiltin kTests[] = {
    {"defined", test_value<is_defined>},
    {"undefined", test_value<is_undefined>},
    {"none", test_value<is_none>},
    {"boolean", test_value<is_boolean>},
    {"true", test_value<is_the_true>},
    {"false", test_value<is_the_false>},
    {"integer", test_value<is_integer>},
    {"float", test_value<is_float>},
    {"number", test_value<is_number>},
    {"string", test_value<is_string>},
    {"mapping", test_value<is_mapping>},
    {"sequence", test_value<is_sequence>},
    {"iterable", test_value<is_iterable>},
    {"callable", test_value<is_callable>},
    {"escaped", test_value<is_escaped>},
    {"lower", test_lower},
    {"upper", test_upper},
    {"odd", test_odd},
    {"even", test_even},
    {"divisibleby", test_divisibleby},
    {"in", test_in},
    {"sameas", test_sameas},
    {"filter", test_filter},
    {"test", test_test},
    {"eq", test_compare<Comparison::equal>},
    {"equalto", test_compare<Comparison::equal>},
    {"==", test_compare<Comparison::equal>},
    {"ne", test_compare<Comparison::not_equal>},
    {"!=", test_compare<Comparison::not_equal>},
    {"lt", test_compare<Comparison::less>},
    {"lessthan", test_compare<Comparison::less>},
    {"<", test_compare<Comparison::less>},
    {"le", test_compare<Comparison::less_equal>},
    {"<=", test_compare<Comparison::less_equal>},
    {"gt", test_compare<Comparison::greater>},
    {"greaterthan", test_compare<Comparison::greater>},
    {">", test_compare<Comparison::greater>},
    {"ge", test_compare<Comparison::greater_equal>},
    {">=", test_compare<Comparison::greater_equal>},
};

}  // namespace

Builtin find_test(std::string_view name) {
  const auto* found = std::ranges::find(kTests, name, &NamedBuiltin::name);
  return found == std::end(kTests) ? nullptr : found->builtin;
}

}  // namespace millrace::jinja
