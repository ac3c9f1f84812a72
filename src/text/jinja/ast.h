// A compiled template: expressions that evaluate themselves, statements that run themselves (eval.cpp,
// exec.cpp). Const after parsing; every render shares it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace millrace::jinja {

class Interpreter;
struct Call;
using NameId = uint32_t;  // of a variable, in Program::names
// A filter, test, function or method. What it works on is call.self.
using Builtin = Value (*)(Interpreter& interpreter, Call& call);

struct Node {
  virtual ~Node() = default;
  uint32_t line = 0;
};

struct Expr : Node {
  virtual Value eval(Interpreter& interpreter) const = 0;
};

enum class Flow : uint8_t { normal, is_break, is_continue };

struct Stmt : Node {
  virtual Flow exec(Interpreter& interpreter) const = 0;
};
using Body = std::vector<const Stmt*>;

struct Literal final : Expr {
  Value value;  // immortal where it is a string
  Value eval(Interpreter&) const override;
};

struct NameExpr final : Expr {
  NameId name = 0;
  Value eval(Interpreter&) const override;
};

struct SequenceExpr final : Expr {
  Kind kind = Kind::list;  // or tuple
  std::vector<const Expr*> items;
  Value eval(Interpreter&) const override;
};

struct DictExpr final : Expr {
  std::vector<std::pair<const Expr*, const Expr*>> items;
  Value eval(Interpreter&) const override;
};

// object.name
struct AttributeExpr final : Expr {
  const Expr* object = nullptr;
  Value name;
  Value eval(Interpreter&) const override;
};

// object[index]
struct ItemExpr final : Expr {
  const Expr* object = nullptr;
  const Expr* index = nullptr;
  Value eval(Interpreter&) const override;
};

// object[start:stop:step], each of which may be missing
struct SliceExpr final : Expr {
  const Expr* object = nullptr;
  const Expr* start = nullptr;
  const Expr* stop = nullptr;
  const Expr* step = nullptr;
  Value eval(Interpreter&) const override;
};

struct Arguments {
  std::vector<const Expr*> positional{};
  std::vector<std::pair<Value, const Expr*>> named{};  // names are strings
  const Expr* more_positional = nullptr;               // *args
  const Expr* more_named = nullptr;                    // **kwargs
};

struct CallExpr final : Expr {
  const Expr* callee = nullptr;
  const AttributeExpr* method = nullptr;  // the callee, where it is an attribute
  Arguments arguments;
  Value eval(Interpreter&) const override;
  Value eval_with(Interpreter&, const Value& caller) const;  // caller: of a call block, else missing
};

struct FilterExpr final : Expr {
  const Expr* input = nullptr;  // nullptr: the text of a filter or set block
  std::string name;
  Builtin filter = nullptr;  // nullptr: unknown, which is an error once it is reached
  Arguments arguments;
  Value eval(Interpreter&) const override;
  Value apply(Interpreter&, Value to) const;  // the whole chain, down to the input that is nullptr
};

struct TestExpr final : Expr {
  const Expr* input = nullptr;
  std::string name;
  Builtin test = nullptr;
  Arguments arguments;
  Value eval(Interpreter&) const override;
};

struct NotExpr final : Expr {
  const Expr* operand = nullptr;
  Value eval(Interpreter&) const override;
};

struct SignExpr final : Expr {
  bool is_negative = true;
  const Expr* operand = nullptr;
  Value eval(Interpreter&) const override;
};

enum class Operator : uint8_t { add, subtract, multiply, divide, floor_divide, modulo, power };

struct BinaryExpr final : Expr {
  Operator op = Operator::add;
  const Expr* left = nullptr;
  const Expr* right = nullptr;
  Value eval(Interpreter&) const override;
};

struct LogicExpr final : Expr {
  bool is_and = true;
  const Expr* left = nullptr;
  const Expr* right = nullptr;
  Value eval(Interpreter&) const override;
};

struct ConcatExpr final : Expr {
  std::vector<const Expr*> parts;
  Value eval(Interpreter&) const override;
};

enum class Comparison : uint8_t { equal, not_equal, less, less_equal, greater, greater_equal, in, not_in };

// a < b <= c: each side is evaluated once
struct CompareExpr final : Expr {
  const Expr* first = nullptr;
  std::vector<std::pair<Comparison, const Expr*>> rest;
  Value eval(Interpreter&) const override;
};

struct ConditionalExpr final : Expr {
  const Expr* condition = nullptr;
  const Expr* then = nullptr;
  const Expr* otherwise = nullptr;  // nullptr: undefined
  Value eval(Interpreter&) const override;
};

// What can stand left of `=` or after `for`: a name, a tuple of targets, or an attribute of a namespace.
struct Target {
  enum class Kind : uint8_t { name, tuple, attribute } kind = Kind::name;
  NameId name = 0;
  Value attribute{};
  std::vector<Target> items{};
};

struct TextStmt final : Stmt {
  std::string text;
  Flow exec(Interpreter&) const override;
};

struct PrintStmt final : Stmt {
  const Expr* value = nullptr;
  Flow exec(Interpreter&) const override;
};

struct IfStmt final : Stmt {
  std::vector<std::pair<const Expr*, Body>> branches;
  Body otherwise;
  Flow exec(Interpreter&) const override;
};

struct ForStmt final : Stmt {
  Target target;
  const Expr* iterable = nullptr;
  const Expr* test = nullptr;  // `if` of the loop
  Body body;
  Body otherwise;
  bool is_recursive = false;
  bool reads_loop = false;  // the body names `loop`
  Flow exec(Interpreter&) const override;
};

struct JumpStmt final : Stmt {
  Flow flow = Flow::is_break;
  Flow exec(Interpreter&) const override;
};

struct SetStmt final : Stmt {
  Target target;
  const Expr* value = nullptr;
  Flow exec(Interpreter&) const override;
};

struct SetBlockStmt final : Stmt {
  Target target;
  const FilterExpr* filter = nullptr;
  Body body;
  Flow exec(Interpreter&) const override;
};

// The parameters and body of a macro or call block.
struct MacroCode {
  struct Parameter {
    NameId name;
    std::string text;
    const Expr* default_value;  // nullptr: none
  };
  std::string name{};
  std::vector<Parameter> parameters{};
  Body body{};
  // Whether the body names these, which decides what a call may hand over.
  bool reads_caller = false, reads_varargs = false, reads_kwargs = false;
};

struct MacroStmt final : Stmt {
  NameId name = 0;
  MacroCode code;
  Flow exec(Interpreter&) const override;
};

struct CallBlockStmt final : Stmt {
  const CallExpr* call = nullptr;  // nullptr: a generation block, whose body is printed as it is
  MacroCode code;
  Flow exec(Interpreter&) const override;
};

struct FilterBlockStmt final : Stmt {
  const FilterExpr* filter = nullptr;
  Body body;
  Flow exec(Interpreter&) const override;
};

struct WithStmt final : Stmt {
  std::vector<std::pair<Target, const Expr*>> variables;
  Body body;
  Flow exec(Interpreter&) const override;
};

// {% block %}: sees the variables of the top level only.
struct BlockStmt final : Stmt {
  Body body;
  Flow exec(Interpreter&) const override;
};

struct Program {
  Heap heap{Heap::Lifetime::immortal};  // of names and string literals
  std::vector<std::unique_ptr<Node>> nodes{};
  std::vector<Value> names{};                               // by NameId
  std::unordered_map<std::string_view, NameId> name_ids{};  // keys live in `names`
  std::unordered_map<std::string_view, Value> strings{};    // short literals and attribute names, by text
  Body body{};
  // Special names.
  NameId loop = 0, caller = 0, varargs = 0, kwargs = 0;
};

}  // namespace millrace::jinja
