// Recursive descent over the tokens, with Jinja's precedences. Depth is limited, so hostile nesting cannot
// reach the end of the stack.
#include <fmt/core.h>

#include <charconv>
#include <initializer_list>

#include "text/jinja/ast.h"
#include "text/jinja/lexer.h"

namespace millrace::jinja {
namespace {

constexpr int kMaxNesting = 150;

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Block run() {
    Block block = parse_until({});
    if (peek().kind != TokenKind::end) fail("unexpected end of a block");
    return block;
  }

 private:
  class Nesting {
   public:
    explicit Nesting(Parser& parser) : parser_(parser) {
      if (++parser_.nesting_ > kMaxNesting) parser_.fail("the template nests too deeply");
    }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    ~Nesting() { --parser_.nesting_; }

   private:
    Parser& parser_;
  };

  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is_op(std::string_view op) const { return peek().kind == TokenKind::op && peek().text == op; }
  bool is_name(std::string_view name) const { return peek().kind == TokenKind::name && peek().text == name; }
  bool skip_op(std::string_view op) { return is_op(op) && (take(), true); }
  bool skip_name(std::string_view name) { return is_name(name) && (take(), true); }
  [[noreturn]] void fail(const std::string& text) const { throw SyntaxError(peek().offset, text); }
  void expect_op(std::string_view op) {
    if (!skip_op(op)) fail(fmt::format("expected '{}'", op));
  }
  std::string expect_name() {
    if (peek().kind != TokenKind::name) fail("expected a name");
    return take().text;
  }
  void expect_block_end() {
    if (peek().kind != TokenKind::block_end) fail("expected the end of the block");
    take();
  }

  // Statements up to a block that begins with one of `ends`, whose name is then the next token.
  Block parse_until(std::initializer_list<std::string_view> ends) {
    const Nesting nesting(*this);
    Block block;
    for (;;) {
      if (peek().kind == TokenKind::end) {
        if (ends.size() > 0) fail(fmt::format("expected a block '{}'", *(ends.end() - 1)));
        return block;
      }
      if (peek().kind == TokenKind::data) {
        block.push_back(make_text(take().text));
      } else if (peek().kind == TokenKind::print_begin) {
        take();
        block.push_back(make_print(parse_expression_list()));
        if (peek().kind != TokenKind::print_end) fail("expected the end of the expression");
        take();
      } else {
        take();  // block_begin
        for (const std::string_view end : ends) {
          if (is_name(end)) return block;
        }
        parse_statement(block);
      }
    }
  }

  void end_with(std::string_view name) {
    if (!skip_name(name)) fail(fmt::format("expected '{}'", name));
    expect_block_end();
  }

  void parse_statement(Block& block) {
    const std::string name = expect_name();
    if (name == "if") {
      block.push_back(parse_if());
    } else if (name == "for") {
      block.push_back(parse_for());
    } else if (name == "set") {
      block.push_back(parse_set());
    } else if (name == "macro") {
      block.push_back(parse_macro());
    } else if (name == "call") {
      block.push_back(parse_call());
    } else if (name == "filter") {
      block.push_back(parse_filter_block());
    } else if (name == "with") {
      block.push_back(parse_with());
    } else if (name == "generation") {
      expect_block_end();
      block.push_back(make_scope({}, parse_until({"endgeneration"})));
      end_with("endgeneration");
    } else if (name == "break" || name == "continue") {
      expect_block_end();
      block.push_back(make_flow(name == "break" ? Flow::break_loop : Flow::continue_loop));
    } else if (name == "do") {
      fail("the block 'do' is not known here");
    } else {
      fail(fmt::format("the block '{}' is not known here", name));
    }
  }

  StatementPtr parse_if() {
    std::vector<std::pair<ExpressionPtr, Block>> branches;
    Block otherwise;
    do {
      ExpressionPtr test = parse_expression_list();
      expect_block_end();
      branches.emplace_back(std::move(test), parse_until({"elif", "else", "endif"}));
    } while (skip_name("elif"));
    if (skip_name("else")) {
      expect_block_end();
      otherwise = parse_until({"endif"});
    }
    end_with("endif");
    return make_if(std::move(branches), std::move(otherwise));
  }

  Target parse_target() {
    Target target;
    const bool is_in_brackets = skip_op("(");
    target.names.push_back(expect_name());
    if (skip_op(".")) {
      target.attribute = expect_name();
      return target;
    }
    while (skip_op(",")) {
      target.is_tuple = true;
      if (peek().kind != TokenKind::name || is_name("in")) break;
      target.names.push_back(expect_name());
    }
    if (is_in_brackets) expect_op(")");
    return target;
  }

  StatementPtr parse_for() {
    Loop loop;
    loop.target = parse_target();
    if (!skip_name("in")) fail("expected 'in'");
    loop.over = parse_expression_list(Conditional::no);
    if (skip_name("if")) loop.condition = parse_expression();
    loop.is_recursive = skip_name("recursive");
    expect_block_end();
    loop.body = parse_until({"else", "endfor"});
    if (skip_name("else")) {
      expect_block_end();
      loop.otherwise = parse_until({"endfor"});
    }
    end_with("endfor");
    return make_for(std::move(loop));
  }

  StatementPtr parse_set() {
    Target target = parse_target();
    if (skip_op("=")) {
      ExpressionPtr value = parse_expression_list();
      expect_block_end();
      return make_set(std::move(target), std::move(value));
    }
    ExpressionPtr filter = parse_filters(make_name("%captured"));
    expect_block_end();
    Block body = parse_until({"endset"});
    end_with("endset");
    return make_set_block(std::move(target), std::move(filter), std::move(body));
  }

  StatementPtr parse_filter_block() {
    ExpressionPtr filter = parse_filter(make_name("%captured"));
    filter = parse_filters(std::move(filter));
    expect_block_end();
    Block body = parse_until({"endfilter"});
    end_with("endfilter");
    Block whole;
    whole.push_back(make_set_block({.names = {"%filtered"}}, std::move(filter), std::move(body)));
    whole.push_back(make_print(make_name("%filtered")));
    return make_scope({}, std::move(whole));
  }

  MacroParameters parse_parameters() {
    MacroParameters parameters;
    expect_op("(");
    while (!skip_op(")")) {
      parameters.names.push_back(expect_name());
      parameters.defaults.push_back(skip_op("=") ? parse_expression() : nullptr);
      if (!is_op(")")) expect_op(",");
    }
    return parameters;
  }

  StatementPtr parse_macro() {
    std::string name = expect_name();
    MacroParameters parameters = parse_parameters();
    expect_block_end();
    Block body = parse_until({"endmacro"});
    skip_name("endmacro");
    if (peek().kind == TokenKind::name) take();
    expect_block_end();
    return make_macro(std::move(name), std::move(parameters), std::move(body));
  }

  StatementPtr parse_call() {
    MacroParameters parameters;
    if (is_op("(")) parameters = parse_parameters();
    ExpressionPtr callee = make_name(expect_name());
    while (skip_op(".")) callee = make_attribute(std::move(callee), expect_name());
    expect_op("(");
    CallArguments arguments = parse_arguments();
    arguments.named.emplace_back("caller", make_name("%caller"));
    ExpressionPtr call = make_call(std::move(callee), std::move(arguments));
    expect_block_end();
    Block body = parse_until({"endcall"});
    end_with("endcall");
    return make_call_block(std::move(call), std::move(parameters), std::move(body));
  }

  StatementPtr parse_with() {
    std::vector<std::pair<Target, ExpressionPtr>> with;
    while (peek().kind != TokenKind::block_end) {
      Target target = parse_target();
      expect_op("=");
      with.emplace_back(std::move(target), parse_expression());
      if (peek().kind != TokenKind::block_end) expect_op(",");
    }
    expect_block_end();
    Block body = parse_until({"endwith"});
    end_with("endwith");
    return make_scope(std::move(with), std::move(body));
  }

  enum class Conditional { yes, no };  // whether `a if b else c` may stand here

  bool ends_expression() const {
    return peek().kind == TokenKind::block_end || peek().kind == TokenKind::print_end || is_op(")") ||
           is_op("]") || is_op("=") || is_name("if") || is_name("recursive");
  }

  // An expression, or several with commas: a tuple.
  ExpressionPtr parse_expression_list(Conditional conditional = Conditional::yes) {
    ExpressionPtr first = conditional == Conditional::yes ? parse_expression() : parse_or();
    if (!is_op(",")) return first;
    std::vector<ExpressionPtr> items;
    items.push_back(std::move(first));
    while (skip_op(",") && !ends_expression())
      items.push_back(conditional == Conditional::yes ? parse_expression() : parse_or());
    return make_list(std::move(items), true);
  }

  ExpressionPtr parse_expression() {
    const Nesting nesting(*this);
    ExpressionPtr value = parse_or();
    while (skip_name("if")) {
      ExpressionPtr test = parse_or();
      ExpressionPtr otherwise = skip_name("else") ? parse_expression() : nullptr;
      value = make_condition(std::move(test), std::move(value), std::move(otherwise));
    }
    return value;
  }

  ExpressionPtr parse_or() {
    ExpressionPtr left = parse_and();
    while (skip_name("or")) left = make_binary("or", std::move(left), parse_and());
    return left;
  }

  ExpressionPtr parse_and() {
    ExpressionPtr left = parse_not();
    while (skip_name("and")) left = make_binary("and", std::move(left), parse_not());
    return left;
  }

  ExpressionPtr parse_not() {
    if (!skip_name("not")) return parse_comparison();
    const Nesting nesting(*this);
    return make_unary("not", parse_not());
  }

  std::string take_comparison() {
    for (const std::string_view op : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (skip_op(op)) return std::string(op);
    }
    if (skip_name("in")) return "in";
    if (is_name("not") && peek(1).kind == TokenKind::name && peek(1).text == "in") {
      take();
      take();
      return "not in";
    }
    return "";
  }

  ExpressionPtr parse_comparison() {
    ExpressionPtr first = parse_sum();
    std::vector<std::pair<std::string, ExpressionPtr>> rest;
    for (std::string op = take_comparison(); !op.empty(); op = take_comparison())
      rest.emplace_back(op, parse_sum());
    return rest.empty() ? std::move(first) : make_comparison(std::move(first), std::move(rest));
  }

  std::string take_op(std::initializer_list<std::string_view> ops) {
    for (const std::string_view op : ops) {
      if (skip_op(op)) return std::string(op);
    }
    return "";
  }

  ExpressionPtr parse_sum() {
    ExpressionPtr left = parse_concatenation();
    for (std::string op = take_op({"+", "-"}); !op.empty(); op = take_op({"+", "-"})) {
      left = make_binary(op, std::move(left), parse_concatenation());
    }
    return left;
  }

  ExpressionPtr parse_concatenation() {
    ExpressionPtr left = parse_product();
    while (skip_op("~")) left = make_binary("~", std::move(left), parse_product());
    return left;
  }

  ExpressionPtr parse_product() {
    ExpressionPtr left = parse_power();
    for (std::string op = take_op({"*", "//", "/", "%"}); !op.empty(); op = take_op({"*", "//", "/", "%"})) {
      left = make_binary(op, std::move(left), parse_power());
    }
    return left;
  }

  ExpressionPtr parse_power() {
    ExpressionPtr left = parse_unary();
    while (skip_op("**")) left = make_binary("**", std::move(left), parse_unary());
    return left;
  }

  ExpressionPtr parse_unary() {
    const std::string op = take_op({"-", "+"});
    if (op.empty()) return parse_filters(parse_postfix());
    const Nesting nesting(*this);
    return parse_filters(make_unary(op, parse_unary_operand()));
  }
  ExpressionPtr parse_unary_operand() {
    const std::string op = take_op({"-", "+"});
    if (op.empty()) return parse_postfix();
    const Nesting nesting(*this);
    return make_unary(op, parse_unary_operand());
  }

  // Filters and tests behind a value.
  ExpressionPtr parse_filters(ExpressionPtr value) {
    for (;;) {
      if (skip_op("|")) {
        value = parse_filter(std::move(value));
      } else if (skip_name("is")) {
        value = parse_test(std::move(value));
      } else if (is_op("(") || is_op(".") || is_op("[")) {
        value = parse_postfix_of(std::move(value));
      } else {
        return value;
      }
    }
  }

  ExpressionPtr parse_filter(ExpressionPtr input) {
    std::string name = expect_name();
    while (skip_op(".")) name += "." + expect_name();
    CallArguments arguments;
    if (skip_op("(")) arguments = parse_arguments();
    return make_filter(std::move(input), std::move(name), std::move(arguments));
  }

  ExpressionPtr parse_test(ExpressionPtr input) {
    const bool is_negated = skip_name("not");
    std::string name = expect_name();
    CallArguments arguments;
    if (skip_op("(")) {
      arguments = parse_arguments();
    } else if (begins_operand()) {
      arguments.positional.push_back(parse_postfix());
    }
    return make_test(std::move(input), std::move(name), std::move(arguments), is_negated);
  }

  // A test may have one argument without brackets: `is divisibleby 3`.
  bool begins_operand() const {
    if (peek().kind == TokenKind::string || peek().kind == TokenKind::integer ||
        peek().kind == TokenKind::real)
      return true;
    if (is_op("[") || is_op("{")) return true;
    if (peek().kind != TokenKind::name) return false;
    for (const std::string_view word : {"else", "or", "and", "is", "if", "in", "not", "recursive"}) {
      if (is_name(word)) return false;
    }
    return true;
  }

  ExpressionPtr parse_postfix() { return parse_postfix_of(parse_primary()); }

  ExpressionPtr parse_postfix_of(ExpressionPtr value) {
    for (;;) {
      if (skip_op(".")) {
        if (peek().kind == TokenKind::integer) {
          value = make_index(std::move(value), make_literal(integer_of(take())));
        } else {
          value = make_attribute(std::move(value), expect_name());
        }
      } else if (skip_op("[")) {
        value = parse_subscript(std::move(value));
      } else if (skip_op("(")) {
        value = make_call(std::move(value), parse_arguments());
      } else {
        return value;
      }
    }
  }

  ExpressionPtr parse_subscript(ExpressionPtr object) {
    ExpressionPtr parts[3];
    int n_colons = 0;
    if (!is_op(":")) parts[0] = parse_expression_list();
    while (n_colons < 2 && skip_op(":")) {
      ++n_colons;
      if (!is_op(":") && !is_op("]")) parts[n_colons] = parse_expression();
    }
    expect_op("]");
    if (n_colons == 0) return make_index(std::move(object), std::move(parts[0]));
    return make_slice(std::move(object), std::move(parts[0]), std::move(parts[1]), std::move(parts[2]));
  }

  CallArguments parse_arguments() {
    CallArguments arguments;
    while (!skip_op(")")) {
      if (skip_op("**")) {
        arguments.spread_named = parse_expression();
      } else if (skip_op("*")) {
        arguments.spread = parse_expression();
      } else if (peek().kind == TokenKind::name && peek(1).kind == TokenKind::op && peek(1).text == "=") {
        std::string name = expect_name();
        take();
        arguments.named.emplace_back(std::move(name), parse_expression());
      } else {
        arguments.positional.push_back(parse_expression());
      }
      if (!is_op(")")) expect_op(",");
    }
    return arguments;
  }

  Value integer_of(const Token& token) const {
    int64_t value = 0;
    const auto result = std::from_chars(token.text.data(), token.text.data() + token.text.size(), value);
    if (result.ec != std::errc()) throw SyntaxError(token.offset, "an integer is too large");
    return value;
  }

  ExpressionPtr parse_primary() {
    const Nesting nesting(*this);
    const Token token = take();
    switch (token.kind) {
      case TokenKind::string: {
        std::string text = token.text;
        while (peek().kind == TokenKind::string) text += take().text;  // neighbours join
        return make_literal(std::move(text));
      }
      case TokenKind::integer:
        return make_literal(integer_of(token));
      case TokenKind::real:
        return make_literal(std::strtod(token.text.c_str(), nullptr));
      case TokenKind::name:
        if (token.text == "true" || token.text == "True") return make_literal(true);
        if (token.text == "false" || token.text == "False") return make_literal(false);
        if (token.text == "none" || token.text == "None") return make_literal(Value());
        return make_name(token.text);
      case TokenKind::op:
        if (token.text == "(") return parse_brackets();
        if (token.text == "[") return make_list(parse_items("]"), false);
        if (token.text == "{") return parse_dict();
        [[fallthrough]];
      default:
        --at_;
        fail(fmt::format("unexpected '{}'", token.text));
    }
  }

  ExpressionPtr parse_brackets() {
    if (skip_op(")")) return make_list({}, true);
    ExpressionPtr value = parse_expression_list();
    expect_op(")");
    return value;
  }

  std::vector<ExpressionPtr> parse_items(std::string_view close) {
    std::vector<ExpressionPtr> items;
    while (!skip_op(close)) {
      items.push_back(parse_expression());
      if (!is_op(close)) expect_op(",");
    }
    return items;
  }

  ExpressionPtr parse_dict() {
    std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
    while (!skip_op("}")) {
      ExpressionPtr key = parse_expression();
      expect_op(":");
      entries.emplace_back(std::move(key), parse_expression());
      if (!is_op("}")) expect_op(",");
    }
    return make_dict(std::move(entries));
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace

Block parse(std::string_view source) { return Parser(tokenize(source)).run(); }

}  // namespace millrace::jinja
