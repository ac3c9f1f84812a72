// What each kind of expression evaluates to.
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/py_text.h"

namespace millrace::jinja {
namespace {

void add_more_named(Interpreter& in, Call& call, const Value& more) {
  if (!more.is(Kind::dict)) raise("argument after ** must be a mapping, not {}", type_name(more));
  for (const auto& [name, value] : more.as<Dict>().entries()) {
    in.heap().step();
    if (!name.is_string()) raise("keywords must be strings");
    call.named.emplace_back(name, value);
  }
}

void add_arguments(Interpreter& in, Call& call, const Arguments& arguments) {
  call.positional.reserve(arguments.positional.size());
  for (const Expr* argument : arguments.positional) call.positional.push_back(in.eval(*argument));
  for (const auto& [name, argument] : arguments.named) call.named.emplace_back(name, in.eval(*argument));
  if (arguments.more_positional != nullptr) {
    for (Value& value : to_values(in, in.eval(*arguments.more_positional))) {
      call.positional.push_back(std::move(value));
    }
  }
  if (arguments.more_named != nullptr) add_more_named(in, call, in.eval(*arguments.more_named));
}

Value apply_filter(Interpreter& in, const FilterExpr& expr, Value to) {
  Call call;
  call.self = std::move(to);
  add_arguments(in, call, expr.arguments);
  if (expr.filter == nullptr) raise("there is no filter '{}'", expr.name);
  return expr.filter(in, call);
}

}  // namespace

Value Literal::eval(Interpreter&) const { return value; }

Value NameExpr::eval(Interpreter& in) const { return in.lookup(name); }

Value SequenceExpr::eval(Interpreter& in) const {
  Values values;
  values.reserve(items.size());
  for (const Expr* item : items) values.push_back(in.eval(*item));
  return kind == Kind::list ? make_list(in.heap(), std::move(values))
                            : make_tuple(in.heap(), std::move(values));
}

Value DictExpr::eval(Interpreter& in) const {
  auto* dict = in.heap().make<Dict>(items.size());
  Value value(Kind::dict, dict);
  for (const auto& [key, member] : items) {
    Value key_value = in.eval(*key);
    dict->set(in.heap(), std::move(key_value), in.eval(*member));
  }
  return value;
}

Value AttributeExpr::eval(Interpreter& in) const { return get_attribute(in, in.eval(*object), name); }

Value ItemExpr::eval(Interpreter& in) const {
  const Value container = in.eval(*object);
  return get_item(in, container, in.eval(*index));
}

Value SliceExpr::eval(Interpreter& in) const {
  const Value container = in.eval(*object);
  const auto bound = [&](const Expr* expr) { return expr == nullptr ? Value() : in.eval(*expr); };
  const Value from = bound(start);
  const Value to = bound(stop);
  return slice(in, container, from, to, bound(step));
}

Value CallExpr::eval(Interpreter& in) const { return eval_with(in, Value()); }

Value CallExpr::eval_with(Interpreter& in, const Value& caller) const {
  Call call;
  const Value object = method != nullptr ? in.eval(*method->object) : Value();
  const Method* found = method != nullptr ? find_method(object.kind(), text_of(method->name)) : nullptr;
  const bool is_method = found != nullptr && !found->is_forbidden;
  Value called;
  if (!is_method) called = method != nullptr ? get_attribute(in, object, method->name) : in.eval(*callee);
  add_arguments(in, call, arguments);
  if (!caller.is_missing()) call.named.emplace_back(in.program().names[in.program().caller], caller);
  if (!is_method) return in.call(called, call);
  call.self = object;
  return found->builtin(in, call);
}

Value FilterExpr::eval(Interpreter& in) const { return apply_filter(in, *this, in.eval(*input)); }

Value FilterExpr::apply(Interpreter& in, Value to) const {
  if (input != nullptr) to = static_cast<const FilterExpr*>(input)->apply(in, std::move(to));
  return apply_filter(in, *this, std::move(to));
}

Value TestExpr::eval(Interpreter& in) const {
  Call call;
  call.self = in.eval(*input);
  add_arguments(in, call, arguments);
  if (test == nullptr) raise("there is no test '{}'", name);
  return test(in, call);
}

Value NotExpr::eval(Interpreter& in) const { return Value(!is_true(in.heap(), in.eval(*operand))); }

Value SignExpr::eval(Interpreter& in) const { return negate(in.eval(*operand), is_negative); }

Value BinaryExpr::eval(Interpreter& in) const {
  const Value a = in.eval(*left);
  return jinja::apply(in, op, a, in.eval(*right));
}

Value LogicExpr::eval(Interpreter& in) const {
  Value value = in.eval(*left);
  return is_true(in.heap(), value) == is_and ? in.eval(*right) : value;
}

Value ConcatExpr::eval(Interpreter& in) const {
  std::string text;
  Values values;
  values.reserve(parts.size());
  for (const Expr* part : parts) values.push_back(in.eval(*part));
  for (const Value& value : values) append_str(in.heap(), text, value);
  return make_string(in.heap(), std::move(text));
}

Value CompareExpr::eval(Interpreter& in) const {
  Value left = in.eval(*first);
  for (const auto& [comparison, expr] : rest) {
    Value right = in.eval(*expr);
    if (!compare(in, comparison, left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Value ConditionalExpr::eval(Interpreter& in) const {
  if (is_true(in.heap(), in.eval(*condition))) return in.eval(*then);
  if (otherwise != nullptr) return in.eval(*otherwise);
  return make_undefined(in.heap(), "the inline if-expression evaluated to false and has no else");
}

}  // namespace millrace::jinja
