// What each kind of statement does.
#include "text/jinja/call.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/py_text.h"

namespace millrace::jinja {

Flow TextStmt::exec(Interpreter& in) const {
  in.emit(text);
  return Flow::normal;
}

Flow PrintStmt::exec(Interpreter& in) const {
  const Value printed = in.eval(*value);
  if (printed.is_string()) {
    in.emit(text_of(printed));
  } else {
    in.emit(to_str(in.heap(), printed));
  }
  return Flow::normal;
}

Flow IfStmt::exec(Interpreter& in) const {
  for (const auto& [condition, body] : branches) {
    if (is_true(in.heap(), in.eval(*condition))) return in.exec(body);
  }
  return in.exec(otherwise);
}

Flow ForStmt::exec(Interpreter& in) const {
  const Value items = in.eval(*iterable);
  return in.run_loop(*this, items, 0);
}

Flow JumpStmt::exec(Interpreter&) const { return flow; }

Flow SetStmt::exec(Interpreter& in) const {
  in.assign(target, in.eval(*value));
  return Flow::normal;
}

Flow SetBlockStmt::exec(Interpreter& in) const {
  Value text;
  {
    const Interpreter::Entered entered(in, in.new_scope(in.scope()));
    Interpreter::Captured captured(in);
    const Flow flow = in.exec(body);
    if (flow != Flow::normal) return flow;
    text = make_string(in.heap(), captured.take());
    if (filter != nullptr) text = filter->apply(in, text);
  }
  in.assign(target, text);
  return Flow::normal;
}

Flow MacroStmt::exec(Interpreter& in) const {
  in.assign({.name = name}, Value(Kind::macro, in.heap().make<Macro>(&code, in.scope())));
  return Flow::normal;
}

Flow CallBlockStmt::exec(Interpreter& in) const {
  const Value caller(Kind::macro, in.heap().make<Macro>(&code, in.scope()));
  Call arguments;
  const Value printed = call != nullptr ? call->eval_with(in, caller) : in.call(caller, arguments);
  in.emit(to_str(in.heap(), printed));
  return Flow::normal;
}

Flow FilterBlockStmt::exec(Interpreter& in) const {
  Value printed;
  {
    const Interpreter::Entered entered(in, in.new_scope(in.scope()));
    Interpreter::Captured captured(in);
    const Flow flow = in.exec(body);
    if (flow != Flow::normal) return flow;
    printed = filter->apply(in, make_string(in.heap(), captured.take()));
  }
  in.emit(to_str(in.heap(), printed));
  return Flow::normal;
}

Flow WithStmt::exec(Interpreter& in) const {
  const Ref<Scope> inner = in.new_scope(in.scope());
  for (const auto& [target, expr] : variables) {
    const Value value = in.eval(*expr);
    const Interpreter::Entered entered(in, inner);
    in.assign(target, value);
  }
  const Interpreter::Entered entered(in, inner);
  return in.exec(body);
}

Flow BlockStmt::exec(Interpreter& in) const {
  const Interpreter::Entered entered(in, in.new_scope(in.top_scope()));
  return in.exec(body);
}

}  // namespace millrace::jinja
