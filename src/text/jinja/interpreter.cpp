#include "text/jinja/interpreter.h"

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "text/jinja/builtins.h"

namespace millrace::jinja {

namespace {

constexpr int kMaxJsonDepth = 150;

// JSON to values. Keys that the template names share the string of the program.
class Importer {
 public:
  Importer(Heap& heap, const Program& program) : heap_(heap), program_(program) {}

  Value import(const Json& json, int depth = 0) {
    heap_.step();
    if (depth > kMaxJsonDepth) raise("a variable nests deeper than the {} levels allowed", kMaxJsonDepth);
    if (json.is_null()) return Value::none();
    if (json.is_bool()) return Value(json.as_bool());
    if (json.is_int()) return Value(json.as_int());
    if (json.is_double()) return Value(json.as_double());
    if (json.is_string()) return text(json.as_string());
    return json.is_array() ? list(json.as_array(), depth) : dict(json.as_object(), depth);
  }

 private:
  Value text(const std::string& text) {
    if (!is_utf8(text)) raise("a variable holds text that is no valid UTF-8: {}", printable(text, 40));
    return make_string(heap_, text);
  }

  Value key(const std::string& name) {
    const auto known = program_.strings.find(name);
    return known != program_.strings.end() ? known->second : text(name);
  }

  Value list(const Json::Array& array, int depth) {
    Values items;
    items.reserve(array.size());
    for (const Json& item : array) items.push_back(import(item, depth + 1));
    return make_list(heap_, std::move(items));
  }

  Value dict(const Json::Object& object, int depth) {
    auto* dict = heap_.make<Dict>(object.size());
    Value value(Kind::dict, dict);
    for (const auto& [name, member] : object) dict->set(heap_, key(name), import(member, depth + 1));
    return value;
  }

  Heap& heap_;
  const Program& program_;
};

}  // namespace

Value* Scope::find(NameId name) {
  for (auto& [known, value] : variables) {
    if (known == name) return &value;
  }
  return nullptr;
}

void Scope::set(NameId name, Value value) {
  if (Value* known = find(name)) {
    *known = std::move(value);
  } else {
    variables.emplace_back(name, std::move(value));
  }
}

Interpreter::Interpreter(const Program& program, const Json& variables, std::string_view now)
    : program_(program), now_(now), globals_(program.names.size()) {
  top_scope_ = scope_ = new_scope(Ref<Scope>());
  for (const NamedBuiltin& function : global_functions()) {
    const auto id = program.name_ids.find(function.name);
    if (id == program.name_ids.end()) continue;
    globals_[id->second] = Value(Kind::function, heap_.make<BoundBuiltin>(Value(), function.builtin));
  }
  for (const char* name : {"tools", "documents"}) {  // None where they are not given, as Hugging Face does it
    const auto id = program.name_ids.find(name);
    if (id != program.name_ids.end()) globals_[id->second] = Value::none();
  }
  if (variables.is_null()) return;
  Importer importer(heap_, program);
  for (const auto& [name, value] : variables.as_object()) {
    const auto id = program.name_ids.find(name);
    if (id != program.name_ids.end()) globals_[id->second] = importer.import(value);
  }
}

std::string Interpreter::run() {
  Captured captured(*this);
  exec(program_.body);
  return captured.take();
}

Value Interpreter::eval(const Expr& expr) {
  const Level level(*this);
  heap_.step();
  return expr.eval(*this);
}

Flow Interpreter::exec(const Body& body) {
  const Level level(*this);
  for (const Stmt* stmt : body) {
    heap_.step();
    line_ = stmt->line;
    const Flow flow = stmt->exec(*this);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

void Interpreter::emit(std::string_view text) {
  heap_.step_bytes(text.size());
  n_emitted_ += text.size();
  if (n_emitted_ > kMaxOutput) raise("it prints more than the {} MiB allowed", kMaxOutput >> 20);
  *out_ += text;
}

Value Interpreter::capture(const Body& body) {
  const Entered entered(*this, new_scope(scope_));
  Captured captured(*this);
  exec(body);
  return make_string(heap_, captured.take());
}

Value Interpreter::lookup(NameId name) {
  for (Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get()) {
    const Value* value = scope->find(name);
    if (value == nullptr) continue;
    if (!value->is_missing()) return *value;
    return make_undefined(heap_, fmt::format("'{}' is undefined", text_of(program_.names[name])));
  }
  if (!globals_[name].is_missing()) return globals_[name];
  return make_undefined(heap_, fmt::format("'{}' is undefined", text_of(program_.names[name])));
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (target.kind == Target::Kind::name) return scope_->set(target.name, value);
  if (target.kind == Target::Kind::tuple) {
    const Values items = to_values(*this, value);
    if (items.size() != target.items.size()) {
      raise("expected {} values to unpack, found {}", target.items.size(), items.size());
    }
    for (size_t i = 0; i < items.size(); ++i) assign(target.items[i], items[i]);
    return;
  }
  const Value object = lookup(target.name);
  if (!object.is(Kind::nspace)) raise("cannot assign attribute on non-namespace object");
  auto& attributes = object.as<Namespace>();
  if (Value* known = attributes.find(text_of(target.attribute))) {
    *known = value;
  } else {
    attributes.attributes.emplace_back(target.attribute, value);
  }
}

Ref<Iterator> Interpreter::loop_items(const ForStmt& loop, const Value& items) {
  Ref<Iterator> all = iterate(*this, items);
  if (loop.test == nullptr) return all;
  return generate(heap_, [&loop, all, around = scope_](Interpreter& in, Value& item) {
    while (all->next(in, item)) {
      const Entered entered(in, in.new_scope(around));
      in.assign(loop.target, item);
      if (is_true(in.heap(), in.eval(*loop.test))) return true;
    }
    return false;
  });
}

Flow Interpreter::run_loop(const ForStmt& statement, const Value& items, int64_t depth0) {
  const Ref<Scope> around = scope_;
  Ref<Iterator> plain = loop_items(statement, items);
  Value loop;
  if (statement.reads_loop || statement.is_recursive) {
    auto* extended = heap_.make<Loop>();
    loop = Value(Kind::loop, extended);
    extended->items = plain;
    extended->n_items = statement.test == nullptr ? length_of(items) : -1;
    extended->depth0 = depth0;
    extended->scope = around;
    if (statement.is_recursive) extended->statement = &statement;
  }
  // As in the original, an item counts only once its body has run to the end: else runs after a loop of
  // nothing but continue.
  bool has_finished_item = false;
  Value item;
  while (loop.is_missing() ? plain->next(*this, item) : loop.as<Loop>().advance(*this, item)) {
    const Entered entered(*this, new_scope(around));
    if (!loop.is_missing()) scope_->set(program_.loop, loop);
    assign(statement.target, item);
    const Flow flow = exec(statement.body);
    if (flow == Flow::is_break) break;
    has_finished_item |= flow == Flow::normal;
  }
  if (has_finished_item || statement.otherwise.empty()) return Flow::normal;
  const Entered entered(*this, new_scope(around));
  return exec(statement.otherwise);
}

Value Interpreter::run_loop_again(const Loop& loop, const Value& items) {
  if (loop.statement == nullptr) raise("the loop must be marked 'recursive' to be called");
  const Level level(*this);
  const ForStmt& statement = *loop.statement;
  const int64_t depth0 = loop.depth0 + 1;
  const Entered entered(*this, loop.scope);
  Captured captured(*this);
  run_loop(statement, items, depth0);
  return make_string(heap_, captured.take());
}

Value Interpreter::call(const Value& callee, Call& call) {
  const Level level(*this);
  switch (callee.kind()) {
    case Kind::macro:
      return call_macro(callee, call);
    case Kind::method:
    case Kind::function:
      call.self = callee.as<BoundBuiltin>().self;
      return callee.as<BoundBuiltin>().builtin(*this, call);
    case Kind::loop: {
      const auto [items] = call.bind("loop", {"iterable"}, 1);
      return run_loop_again(callee.as<Loop>(), items);
    }
    case Kind::joiner: {
      call.expect_none("joiner");
      const bool is_first = !std::exchange(callee.as<Joiner>().is_used, true);
      return is_first ? make_string(heap_, "") : callee.as<Joiner>().separator;
    }
    case Kind::undefined:
      raise_undefined(callee);
    default:
      raise("'{}' object is not callable", type_name(callee));
  }
}

// Moves the arguments into the parameters; those left over stay in `call`.
void Interpreter::bind_parameters(const MacroCode& code, Call& call, Scope& scope) {
  const size_t n_given = std::min(call.positional.size(), code.parameters.size());
  for (size_t i = 0; i < code.parameters.size(); ++i) {
    const MacroCode::Parameter& parameter = code.parameters[i];
    Value value;
    if (i < n_given) {
      value = call.positional[i];
    } else {
      const auto named = std::ranges::find_if(
          call.named, [&](const auto& argument) { return text_of(argument.first) == parameter.text; });
      if (named != call.named.end()) {
        value = named->second;
        call.named.erase(named);
      }
    }
    scope.set(parameter.name, std::move(value));
  }
  call.positional.erase(call.positional.begin(), call.positional.begin() + static_cast<ptrdiff_t>(n_given));
}

// What no parameter took: the caller of a call block, kwargs, varargs. The body gets what it names; the rest
// is an error.
void Interpreter::bind_rest(const MacroCode& code, Call& call, Scope& scope) {
  const auto caller = std::ranges::find_if(
      call.named, [&](const auto& argument) { return text_of(argument.first) == "caller"; });
  if (code.reads_caller && scope.find(program_.caller) == nullptr) {
    scope.set(program_.caller,
              caller != call.named.end() ? caller->second : make_undefined(heap_, "No caller defined"));
    if (caller != call.named.end()) call.named.erase(caller);
  }
  if (code.reads_kwargs && scope.find(program_.kwargs) == nullptr) {
    auto* dict = heap_.make<Dict>(call.named.size());
    scope.set(program_.kwargs, Value(Kind::dict, dict));
    for (auto& [name, value] : call.named) dict->set(heap_, name, value);
  } else if (!call.named.empty()) {
    raise("macro '{}' takes no argument named '{}'", code.name, printable(text_of(call.named[0].first)));
  }
  if (code.reads_varargs && scope.find(program_.varargs) == nullptr) {
    scope.set(program_.varargs, make_tuple(heap_, std::move(call.positional)));
  } else if (!call.positional.empty()) {
    raise("macro '{}' takes not more than {} arguments", code.name, code.parameters.size());
  }
}

Value Interpreter::call_macro(const Value& macro, Call& call) {
  const Macro& callee = macro.as<Macro>();
  const MacroCode& code = *callee.code;
  const Entered entered(*this, new_scope(callee.closure));
  bind_parameters(code, call, *scope_);

  bind_rest(code, call, *scope_);
  for (const MacroCode::Parameter& parameter : code.parameters) {
    if (!scope_->find(parameter.name)->is_missing()) continue;
    scope_->set(parameter.name,
                parameter.default_value != nullptr
                    ? eval(*parameter.default_value)
                    : make_undefined(heap_, fmt::format("parameter '{}' was not provided", parameter.text)));
  }
  const uint32_t line = line_;
  Captured captured(*this);
  exec(code.body);
  line_ = line;
  return make_string(heap_, captured.take());
}

}  // namespace millrace::jinja
