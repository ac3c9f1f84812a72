// The parser, shared by parse_expr.cpp and parse_stmt.cpp: recursive descent over Jinja's grammar, with a
// limit on nesting. One token of look-ahead decides everywhere but before `=`, `.` and `in`.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace millrace::jinja {

class Parser {
 public:
  Parser(std::string_view source, const std::vector<Token>& tokens, Program& program);
  void run();  // throws SyntaxError

 private:
  static constexpr int kMaxNesting = 200;

  // Counts the levels of the source that the parser is inside of.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.nesting_ > kMaxNesting) parser_.fail("it nests too deeply here");
    }
    ~Level() { --parser_.nesting_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Parser& parser_;
  };

  // An unknown filter or test fails the template, unless a condition may keep it from being reached.
  struct Unknown {
    uint32_t offset;
    std::string text;
  };

  enum class Conditional { allowed, no };

  // Tokens.
  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& next();
  bool is_op(std::string_view op) const;
  bool is_name(std::string_view name) const;
  bool skip_op(std::string_view op);
  bool skip_name(std::string_view name);
  void expect_op(std::string_view op);
  void expect_name(std::string_view name);
  void expect(TokenKind kind);
  std::string expect_any_name();
  [[noreturn]] void fail(std::string_view what) const;
  [[noreturn]] void fail_expected(std::string_view what) const;
  uint32_t line_of(const Token& token);

  // Nodes.
  template <class T>
  T* make();
  Value intern(std::string text);
  NameId name_id(const std::string& name);

  // Expressions.
  const Expr* parse_expression(Conditional conditional = Conditional::allowed);
  const Expr* parse_conditional();
  const Expr* parse_or();
  const Expr* parse_and();
  const Expr* parse_not();
  const Expr* parse_compare();
  bool parse_comparison(Comparison& comparison);
  const Expr* parse_sum();
  const Expr* parse_concat();
  const Expr* parse_product();
  const Expr* parse_power();
  const Expr* parse_unary(bool with_filters = true);
  const Expr* parse_primary();
  const Expr* parse_name();
  const Expr* parse_strings();
  const Expr* parse_list();
  const Expr* parse_dict();
  const Expr* parse_postfix(const Expr* expr);
  const Expr* parse_filters_and_tests(const Expr* expr);
  const Expr* parse_attribute(const Expr* object);
  const Expr* parse_subscript(const Expr* object);
  const Expr* parse_slice_part();
  const CallExpr* parse_call(const Expr* callee);
  const FilterExpr* parse_filter(const Expr* input);
  const FilterExpr* parse_filter_chain(const Expr* input);
  const Expr* parse_test(const Expr* input);
  Arguments parse_arguments();
  void parse_argument(Arguments& arguments);
  const Expr* literal(Value value);
  std::string parse_dotted_name();
  void note_unknown(const Token& token, std::string text);

  enum class TupleOf { expressions, unconditional, targets, parenthesized };
  const Expr* parse_tuple(TupleOf what, std::string_view end_name = {});
  bool is_tuple_end(std::string_view end_name) const;

  // Statements.
  Body parse_body(std::initializer_list<std::string_view> ends, std::string* found = nullptr);
  void parse_print(Body& body);
  const Stmt* parse_statement();
  const Stmt* parse_for();
  const Stmt* parse_if();
  const Stmt* parse_set();
  const Stmt* parse_with();
  const Stmt* parse_macro();
  const Stmt* parse_call_block();
  const Stmt* parse_generation();
  const Stmt* parse_filter_block();
  const Stmt* parse_block();
  const Stmt* parse_jump();
  const Stmt* parse_print_statement();
  Target parse_target(std::string_view end_name, bool with_attribute);
  Target to_target(const Expr* expr) const;
  void parse_signature(MacroCode& code);
  void parse_macro_body(MacroCode& code, std::string_view end);
  void parse_inner(Body& body, std::initializer_list<std::string_view> ends, std::string* found = nullptr);

  const std::vector<Token>& tokens_;
  std::string_view source_;
  Program& program_;
  size_t at_ = 0;
  int nesting_ = 0;
  // Lines are counted as the tokens go by.
  uint32_t line_ = 1;
  size_t line_counted_to_ = 0;
  // Where the parser is.
  std::vector<ForStmt*> open_loops_;     // whose bodies
  std::vector<MacroCode*> open_macros_;  // whose bodies
  std::vector<std::string> open_blocks_;
  std::vector<std::string> block_names_;
  int n_loops_ = 0;       // of this function that break and continue can leave
  bool is_soft_ = false;  // directly inside of an if
  std::vector<Unknown> unknown_;
};

template <class T>
T* Parser::make() {
  auto node = std::make_unique<T>();
  node->line = line_of(current());
  T* raw = node.get();
  program_.nodes.push_back(std::move(node));
  return raw;
}

}  // namespace millrace::jinja
