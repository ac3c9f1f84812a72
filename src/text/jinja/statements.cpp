#include <fmt/core.h>

#include <algorithm>

#include "text/jinja/ast.h"
#include "text/jinja/builtins.h"

namespace millrace::jinja {
namespace {

template <class F>
class Lambda final : public Statement {
 public:
  explicit Lambda(F f) : f_(std::move(f)) {}
  Flow run(Context& context) const override {
    context.step();
    return f_(context);
  }

 private:
  F f_;
};
template <class F>
StatementPtr lambda(F f) {
  return std::make_unique<Lambda<F>>(std::move(f));
}

// A scope of variables until the end of the C++ scope.
class InnerScope {
 public:
  explicit InnerScope(Context& context) : context_(context) { context.push(); }
  InnerScope(const InnerScope&) = delete;
  InnerScope& operator=(const InnerScope&) = delete;
  ~InnerScope() { context_.pop(); }

 private:
  Context& context_;
};

std::string capture(const Block& block, Context& context) {
  std::string before = context.begin_capture();
  run_block(block, context);
  return context.end_capture(std::move(before));
}

// The variable `loop` at item i.
std::shared_ptr<Dict> loop_variable(const Values& items, size_t i, int64_t depth) {
  const auto n = static_cast<int64_t>(items.size()), at = static_cast<int64_t>(i);
  auto loop = std::make_shared<Dict>();
  loop->entries = {
      {"index", at + 1},    {"index0", at},        {"revindex", n - at}, {"revindex0", n - at - 1},
      {"first", at == 0},   {"last", at == n - 1}, {"length", n},        {"depth", depth},
      {"depth0", depth - 1}};
  loop->entries.emplace_back("previtem", i > 0 ? items[i - 1] : Value(Undefined{"loop.previtem"}));
  loop->entries.emplace_back("nextitem",
                             i + 1 < items.size() ? items[i + 1] : Value(Undefined{"loop.nextitem"}));
  loop->entries.emplace_back("cycle", std::make_shared<Function>(Function{
                                          "cycle", [i](const Arguments& arguments) {
                                            if (arguments.positional.empty())
                                              throw RenderError("no items for cycling given");
                                            return arguments.positional[i % arguments.positional.size()];
                                          }}));
  return loop;
}

class For final : public Statement {
 public:
  explicit For(Loop loop) : loop_(std::move(loop)) {}

  Flow run(Context& context) const override { return run_over(context, loop_.over->eval(context), 1); }

 private:
  Values filtered(Context& context, const Value& over) const {
    Values items = iterate(over);
    context.step(static_cast<int64_t>(items.size()));
    if (loop_.condition == nullptr) return items;
    Values kept;
    for (Value& item : items) {
      const InnerScope scope(context);
      loop_.target.assign(context, item);
      if (loop_.condition->eval(context).is_true()) kept.push_back(std::move(item));
    }
    return kept;
  }

  Flow run_over(Context& context, const Value& over, int64_t depth) const {
    const Context::Depth nesting(context);
    const Values items = filtered(context, over);
    // What loop.changed() saw last.
    const auto last_seen = std::make_shared<Value>(Undefined{"%"});
    for (size_t i = 0; i < items.size(); ++i) {
      const InnerScope scope(context);
      const std::shared_ptr<Dict> loop = loop_variable(items, i, depth);
      loop->entries.emplace_back("changed", std::make_shared<Function>(Function{
                                                "changed", [last_seen](const Arguments& arguments) -> Value {
                                                  Value now = Value::list(arguments.positional, true);
                                                  const bool is_changed =
                                                      last_seen->is_undefined() || !is_equal(*last_seen, now);
                                                  *last_seen = std::move(now);
                                                  return is_changed;
                                                }}));
      if (loop_.is_recursive) {
        loop->entries.emplace_back(
            "%call", std::make_shared<Function>(
                         Function{"loop", [this, &context, depth](const Arguments& arguments) -> Value {
                                    std::string before = context.begin_capture();
                                    run_over(context, arguments.need(0, "iterable"), depth + 1);
                                    return context.end_capture(std::move(before));
                                  }}));
      }
      context.set("loop", Value(loop));
      loop_.target.assign(context, items[i]);
      if (run_block(loop_.body, context) == Flow::break_loop) break;
    }
    if (items.empty()) return run_block(loop_.otherwise, context);
    return Flow::next;
  }

  Loop loop_;
};

// Puts back, at the end of the C++ scope, the variables that a macro does not see.
class MacroScope {
 public:
  // What the macro sees beyond the outermost scope: nothing, or of a call block what was around it.
  MacroScope(Context& context, std::vector<Context::Scope> seen)
      : context_(context), hidden_(context.hide_scopes()) {
    context.restore_scopes(std::move(seen));
    context.push();
  }
  MacroScope(const MacroScope&) = delete;
  MacroScope& operator=(const MacroScope&) = delete;
  ~MacroScope() { context_.restore_scopes(std::move(hidden_)); }

 private:
  Context& context_;
  std::vector<Context::Scope> hidden_;
};

void set_parameters(Context& context, const MacroParameters& parameters, const Arguments& arguments) {
  for (size_t i = 0; i < parameters.names.size(); ++i) {
    const Value* given = arguments.find(i, parameters.names[i]);
    const ExpressionPtr& otherwise = parameters.defaults[i];
    context.set(parameters.names[i], given != nullptr       ? *given
                                     : otherwise != nullptr ? otherwise->eval(context)
                                                            : Value(Undefined{parameters.names[i]}));
  }
  Values rest;
  for (size_t i = parameters.names.size(); i < arguments.positional.size(); ++i)
    rest.push_back(arguments.positional[i]);
  auto named = std::make_shared<Dict>();
  for (const auto& [key, value] : arguments.named) {
    if (key == "caller") {
      context.set("caller", value);
    } else if (std::ranges::find(parameters.names, key) == parameters.names.end()) {
      named->set(Value(key), value);
    }
  }
  context.set("varargs", Value::list(std::move(rest), true));
  context.set("kwargs", Value(named));
}

// The function of a macro or of a call block. `parameters` and `body` live as long as the template.
Value macro_function(Context& context, const std::string& name, const MacroParameters& parameters,
                     const Block& body, std::vector<Context::Scope> seen) {
  return std::make_shared<Function>(Function{
      name, [&context, &parameters, &body, seen = std::move(seen)](const Arguments& arguments) -> Value {
        const Context::Depth depth(context);
        const MacroScope scope(context, seen);
        set_parameters(context, parameters, arguments);
        return capture(body, context);
      }});
}

}  // namespace

Flow run_block(const Block& block, Context& context) {
  for (const auto& statement : block) {
    const Flow flow = statement->run(context);
    if (flow != Flow::next) return flow;
  }
  return Flow::next;
}

void Target::assign(Context& context, const Value& value) const {
  if (!attribute.empty()) {
    const Value* object = context.find(names[0]);
    if (object == nullptr || !object->is_dict() || !object->dict().is_namespace) {
      throw RenderError(fmt::format("cannot assign attribute on non-namespace object '{}'", names[0]));
    }
    return object->dict().set(Value(attribute), value);
  }
  if (!is_tuple) return context.set(names[0], value);
  const Values items = iterate(value);
  if (items.size() != names.size()) {
    throw RenderError(fmt::format("expected {} values to unpack, found {}", names.size(), items.size()));
  }
  for (size_t i = 0; i < names.size(); ++i) context.set(names[i], items[i]);
}

StatementPtr make_text(std::string text) {
  return lambda([text = std::move(text)](Context& context) {
    context.write(text);
    return Flow::next;
  });
}

StatementPtr make_print(ExpressionPtr expression) {
  return lambda([expression = std::move(expression)](Context& context) {
    context.write(expression->eval(context).str());
    return Flow::next;
  });
}

StatementPtr make_if(std::vector<std::pair<ExpressionPtr, Block>> branches, Block otherwise) {
  return lambda([branches = std::move(branches), otherwise = std::move(otherwise)](Context& context) {
    for (const auto& [test, block] : branches) {
      if (test->eval(context).is_true()) return run_block(block, context);
    }
    return run_block(otherwise, context);
  });
}

StatementPtr make_for(Loop loop) { return std::make_unique<For>(std::move(loop)); }

StatementPtr make_set(Target target, ExpressionPtr value) {
  return lambda([target = std::move(target), value = std::move(value)](Context& context) {
    target.assign(context, value->eval(context));
    return Flow::next;
  });
}

StatementPtr make_set_block(Target target, ExpressionPtr filter, Block body) {
  return lambda(
      [target = std::move(target), filter = std::move(filter), body = std::move(body)](Context& context) {
        Value value;
        {
          const InnerScope scope(context);
          std::string text = capture(body, context);
          context.set("%captured", Value(std::move(text)));
          value = filter->eval(context);
        }
        target.assign(context, value);
        return Flow::next;
      });
}

StatementPtr make_macro(std::string name, MacroParameters parameters, Block body) {
  return lambda(
      [name = std::move(name), parameters = std::move(parameters), body = std::move(body)](Context& context) {
        context.set(name, macro_function(context, name, parameters, body, {}));
        return Flow::next;
      });
}

// The body becomes the function caller() of the macro that is called; it sees the variables around it.
StatementPtr make_call_block(ExpressionPtr call, MacroParameters parameters, Block body) {
  return lambda([call = std::move(call), parameters = std::move(parameters), body = std::move(body),
                 name = std::string("caller")](Context& context) {
    std::vector<Context::Scope> seen = context.hide_scopes();
    context.restore_scopes(seen);
    const InnerScope scope(context);
    context.set("%caller", macro_function(context, name, parameters, body, std::move(seen)));
    context.write(call->eval(context).str());
    return Flow::next;
  });
}

StatementPtr make_scope(std::vector<std::pair<Target, ExpressionPtr>> with, Block body) {
  return lambda([with = std::move(with), body = std::move(body)](Context& context) {
    const InnerScope scope(context);
    for (const auto& [target, value] : with) target.assign(context, value->eval(context));
    return run_block(body, context);
  });
}

StatementPtr make_flow(Flow flow) {
  return lambda([flow](Context&) { return flow; });
}

}  // namespace millrace::jinja
