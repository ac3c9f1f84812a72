// Runs a Program once: the variables it sees, the scopes it opens, the text it prints. One render, one
// interpreter, one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "text/jinja/ast.h"
#include "text/jinja/iterate.h"
#include "text/jinja/value.h"

namespace millrace::jinja {

// Variables of a for body, macro, with, ... and of the template itself. Kept by the macros defined in it.
struct Scope final : Object {
  explicit Scope(Ref<Scope> outer) : parent(std::move(outer)) {}
  void release_children() override {
    variables.clear();
    parent.reset();
  }
  size_t n_bytes() const override { return sizeof(*this) + 4 * sizeof(variables[0]); }
  Value* find(NameId name);
  void set(NameId name, Value value);

  Ref<Scope> parent;
  std::vector<std::pair<NameId, Value>> variables{};
};

struct Macro final : Object {
  Macro(const MacroCode* what, Ref<Scope> where) : code(what), closure(std::move(where)) {}
  void release_children() override { closure.reset(); }
  size_t n_bytes() const override { return sizeof(*this); }
  const MacroCode* code;
  Ref<Scope> closure;
};

class Interpreter {
 public:
  Interpreter(const Program& program, const Json& variables, std::string_view now);

  std::string run();
  // The line of the statement that runs, or ran when it failed.
  uint32_t line() const { return line_; }

  Heap& heap() { return heap_; }
  const Program& program() const { return program_; }
  std::string_view now() const { return now_; }

  Value eval(const Expr& expr);
  Flow exec(const Body& body);
  void emit(std::string_view text);
  // What the body prints, in a scope of its own.
  Value capture(const Body& body);

  Value lookup(NameId name);
  void assign(const Target& target, const Value& value);
  const Ref<Scope>& scope() const { return scope_; }
  const Ref<Scope>& top_scope() const { return top_scope_; }

  Flow run_loop(const ForStmt& loop, const Value& items, int64_t depth0);
  // loop(items) of a recursive loop: what its body prints for them.
  Value run_loop_again(const Loop& loop, const Value& items);

  // Throws RenderError where the value cannot be called.
  Value call(const Value& callee, Call& call);

  // A level of expressions, statements, calls and iterators inside of each other, for as long as this lives:
  // they spend C++ stack.
  class Level {
   public:
    explicit Level(Interpreter& interpreter) : interpreter_(interpreter) {
      if (interpreter_.depth_ >= kMaxDepth) {
        raise("it nests or recurses deeper than the {} levels allowed", kMaxDepth);
      }
      ++interpreter_.depth_;
    }
    ~Level() { --interpreter_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Interpreter& interpreter_;
  };

  // A scope, entered for as long as this lives.
  class Entered {
   public:
    Entered(Interpreter& interpreter, Ref<Scope> scope)
        : interpreter_(interpreter), old_(std::exchange(interpreter.scope_, std::move(scope))) {}
    ~Entered() { interpreter_.scope_ = std::move(old_); }
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;

   private:
    Interpreter& interpreter_;
    Ref<Scope> old_;
  };
  Ref<Scope> new_scope(const Ref<Scope>& parent) { return Ref<Scope>(heap_.make<Scope>(parent)); }

  // What is printed goes to a text of its own for as long as this lives.
  class Captured {
   public:
    explicit Captured(Interpreter& interpreter)
        : interpreter_(interpreter), old_(std::exchange(interpreter.out_, &text_)) {}
    ~Captured() { interpreter_.out_ = old_; }
    Captured(const Captured&) = delete;
    Captured& operator=(const Captured&) = delete;
    std::string take() { return std::move(text_); }

   private:
    Interpreter& interpreter_;
    std::string text_;
    std::string* old_;
  };

 private:
  static constexpr size_t kMaxOutput = size_t{64} << 20;
  static constexpr int kMaxDepth = 1000;

  Value call_macro(const Value& macro, Call& call);
  void bind_parameters(const MacroCode& code, Call& call, Scope& scope);
  void bind_rest(const MacroCode& code, Call& call, Scope& scope);
  Ref<Iterator> loop_items(const ForStmt& loop, const Value& items);

  // The order matters: the heap outlives every value.
  Heap heap_{Heap::Lifetime::counted};
  const Program& program_;
  std::string_view now_;
  Values globals_{};  // by NameId; missing: not given
  Ref<Scope> top_scope_{};
  Ref<Scope> scope_{};
  std::string* out_ = nullptr;
  size_t n_emitted_ = 0;
  int depth_ = 0;
  uint32_t line_ = 0;
};

}  // namespace millrace::jinja
