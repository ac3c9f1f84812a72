// A parsed template. Nodes are immutable and know how to evaluate or run themselves on a Context, so that any
// number of renders can share them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/context.h"

namespace millrace::jinja {

class Expression {
 public:
  virtual ~Expression() = default;
  virtual Value eval(Context& context) const = 0;
  // The name of a variable, or empty: what may be assigned to.
  virtual std::string_view name() const { return {}; }
};
using ExpressionPtr = std::unique_ptr<const Expression>;

// How a block ended.
enum class Flow { next, break_loop, continue_loop };

class Statement {
 public:
  virtual ~Statement() = default;
  virtual Flow run(Context& context) const = 0;
};
using Block = std::vector<std::unique_ptr<const Statement>>;

Flow run_block(const Block& block, Context& context);

// Names that a value is unpacked to: one name, or several for the items of a sequence; or ns.attribute.
struct Target {
  std::vector<std::string> names;
  bool is_tuple = false;
  std::string attribute;  // of names[0], a namespace

  void assign(Context& context, const Value& value) const;
};

struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr spread, spread_named;  // *list, **dict

  Arguments eval(Context& context) const;
};

struct MacroParameters {
  std::vector<std::string> names;
  std::vector<ExpressionPtr> defaults;  // nullptr: needed... undefined when it is not given
};

// Expressions.
ExpressionPtr make_literal(Value value);
ExpressionPtr make_name(std::string name);
ExpressionPtr make_list(std::vector<ExpressionPtr> items, bool is_tuple);
ExpressionPtr make_dict(std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries);
ExpressionPtr make_unary(std::string op, ExpressionPtr operand);                     // - + not
ExpressionPtr make_binary(std::string op, ExpressionPtr left, ExpressionPtr right);  // arithmetic, ~, and, or
ExpressionPtr make_comparison(ExpressionPtr first, std::vector<std::pair<std::string, ExpressionPtr>> rest);
ExpressionPtr make_condition(ExpressionPtr test, ExpressionPtr then, ExpressionPtr otherwise);
ExpressionPtr make_attribute(ExpressionPtr object, std::string name);
ExpressionPtr make_index(ExpressionPtr object, ExpressionPtr index);
ExpressionPtr make_slice(ExpressionPtr object, ExpressionPtr begin, ExpressionPtr end, ExpressionPtr step);
ExpressionPtr make_call(ExpressionPtr callee, CallArguments arguments);
ExpressionPtr make_filter(ExpressionPtr input, std::string name, CallArguments arguments);
ExpressionPtr make_test(ExpressionPtr input, std::string name, CallArguments arguments, bool is_negated);

// Statements.
using StatementPtr = std::unique_ptr<const Statement>;
StatementPtr make_text(std::string text);
StatementPtr make_print(ExpressionPtr expression);
StatementPtr make_if(std::vector<std::pair<ExpressionPtr, Block>> branches, Block otherwise);
struct Loop {
  Target target;
  ExpressionPtr over, condition;
  Block body, otherwise;
  bool is_recursive = false;
};
StatementPtr make_for(Loop loop);
StatementPtr make_set(Target target, ExpressionPtr value);
StatementPtr make_set_block(Target target, ExpressionPtr filter,
                            Block body);  // filter: of the name "%captured"
StatementPtr make_macro(std::string name, MacroParameters parameters, Block body);
StatementPtr make_call_block(ExpressionPtr call, MacroParameters parameters, Block body);
StatementPtr make_scope(std::vector<std::pair<Target, ExpressionPtr>> with, Block body);
StatementPtr make_flow(Flow flow);

// Parses a template. Throws SyntaxError.
Block parse(std::string_view source);

}  // namespace millrace::jinja
