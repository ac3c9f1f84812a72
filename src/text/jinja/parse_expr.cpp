// Expressions, loosest binding first.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/parser_impl.h"

namespace millrace::jinja {
namespace {

struct OperatorName {
  std::string_view text;
  Operator op;
};
constexpr OperatorName kSums[] = {{"+", Operator::add}, {"-", Operator::subtract}};
constexpr OperatorName kProducts[] = {{"*", Operator::multiply},
                                      {"/", Operator::divide},
                                      {"//", Operator::floor_divide},
                                      {"%", Operator::modulo}};

}  // namespace

const Expr* Parser::parse_expression(Conditional conditional) {
  const Level level(*this);
  return conditional == Conditional::allowed ? parse_conditional() : parse_or();
}

// a if b else c. What stands in any of the three may never be reached, so unknown filters wait for the
// render.
const Expr* Parser::parse_conditional() {
  const size_t n_unknown = unknown_.size();
  const Expr* expr = parse_or();
  while (is_name("if")) {
    auto* conditional = make<ConditionalExpr>();
    next();
    conditional->then = expr;
    conditional->condition = parse_or();
    if (skip_name("else")) conditional->otherwise = parse_expression();
    unknown_.resize(n_unknown);
    expr = conditional;
  }
  return expr;
}

const Expr* Parser::parse_or() {
  const Expr* left = parse_and();
  while (is_name("or")) {
    auto* logic = make<LogicExpr>();
    next();
    logic->is_and = false;
    logic->left = left;
    logic->right = parse_and();
    left = logic;
  }
  return left;
}

const Expr* Parser::parse_and() {
  const Expr* left = parse_not();
  while (is_name("and")) {
    auto* logic = make<LogicExpr>();
    next();
    logic->left = left;
    logic->right = parse_not();
    left = logic;
  }
  return left;
}

const Expr* Parser::parse_not() {
  if (!is_name("not")) return parse_compare();
  const Level level(*this);
  auto* negation = make<NotExpr>();
  next();
  negation->operand = parse_not();
  return negation;
}

bool Parser::parse_comparison(Comparison& comparison) {
  constexpr std::pair<std::string_view, Comparison> kComparisons[] = {
      {"==", Comparison::equal},      {"!=", Comparison::not_equal}, {"<", Comparison::less},
      {"<=", Comparison::less_equal}, {">", Comparison::greater},    {">=", Comparison::greater_equal}};
  for (const auto& [text, which] : kComparisons) {
    if (skip_op(text)) {
      comparison = which;
      return true;
    }
  }
  if (skip_name("in")) {
    comparison = Comparison::in;
    return true;
  }
  if (!is_name("not") || look().kind != TokenKind::name || look().text != "in") return false;
  next();
  next();
  comparison = Comparison::not_in;
  return true;
}

const Expr* Parser::parse_compare() {
  const Expr* first = parse_sum();
  Comparison comparison;
  if (!parse_comparison(comparison)) return first;
  auto* compare = make<CompareExpr>();
  compare->first = first;
  do {
    compare->rest.emplace_back(comparison, parse_sum());
  } while (parse_comparison(comparison));
  return compare;
}

const Expr* Parser::parse_sum() {
  const Expr* left = parse_concat();
  while (true) {
    const auto* op = std::ranges::find_if(kSums, [&](const OperatorName& o) { return is_op(o.text); });
    if (op == std::end(kSums)) return left;
    auto* binary = make<BinaryExpr>();
    next();
    binary->op = op->op;
    binary->left = left;
    binary->right = parse_concat();
    left = binary;
  }
}

const Expr* Parser::parse_concat() {
  const Expr* first = parse_product();
  if (!is_op("~")) return first;
  auto* concat = make<ConcatExpr>();
  concat->parts.push_back(first);
  while (skip_op("~")) concat->parts.push_back(parse_product());
  return concat;
}

const Expr* Parser::parse_product() {
  const Expr* left = parse_power();
  while (true) {
    const auto* op = std::ranges::find_if(kProducts, [&](const OperatorName& o) { return is_op(o.text); });
    if (op == std::end(kProducts)) return left;
    auto* binary = make<BinaryExpr>();
    next();
    binary->op = op->op;
    binary->left = left;
    binary->right = parse_power();
    left = binary;
  }
}

// Jinja's power binds to the left, unlike Python's, and looser than a sign.
const Expr* Parser::parse_power() {
  const Expr* left = parse_unary();
  while (is_op("**")) {
    auto* binary = make<BinaryExpr>();
    next();
    binary->op = Operator::power;
    binary->left = left;
    binary->right = parse_unary();
    left = binary;
  }
  return left;
}

const Expr* Parser::parse_unary(bool with_filters) {
  const Expr* expr = nullptr;
  if (is_op("-") || is_op("+")) {
    const Level level(*this);
    auto* sign = make<SignExpr>();
    sign->is_negative = next().text == "-";
    sign->operand = parse_unary(false);
    expr = sign;
  } else {
    expr = parse_primary();
  }
  expr = parse_postfix(expr);
  return with_filters ? parse_filters_and_tests(expr) : expr;
}

const Expr* Parser::literal(Value value) {
  auto* expr = make<Literal>();
  expr->value = std::move(value);
  return expr;
}

const Expr* Parser::parse_primary() {
  const Token& token = current();
  switch (token.kind) {
    case TokenKind::name:
      return parse_name();
    case TokenKind::string:
      return parse_strings();
    case TokenKind::integer:
      return literal(Value(next().integer));
    case TokenKind::real:
      return literal(Value(next().real));
    default:
      break;
  }
  if (is_op("[")) return parse_list();
  if (is_op("{")) return parse_dict();
  if (!skip_op("(")) fail_expected("an expression");
  const Level level(*this);
  const Expr* expr = parse_tuple(TupleOf::parenthesized);
  expect_op(")");
  return expr;
}

const Expr* Parser::parse_name() {
  const std::string& text = current().text;
  if (text == "true" || text == "True") return next(), literal(Value(true));
  if (text == "false" || text == "False") return next(), literal(Value(false));
  if (text == "none" || text == "None") return next(), literal(Value::none());
  auto* expr = make<NameExpr>();
  expr->name = name_id(next().text);
  if (expr->name == program_.loop) {
    for (ForStmt* loop : open_loops_) loop->reads_loop = true;
  }
  for (MacroCode* macro : open_macros_) {
    macro->reads_caller |= expr->name == program_.caller;
    macro->reads_varargs |= expr->name == program_.varargs;
    macro->reads_kwargs |= expr->name == program_.kwargs;
  }
  return expr;
}

const Expr* Parser::parse_strings() {
  std::string text;
  while (current().kind == TokenKind::string) text += next().text;
  return literal(intern(std::move(text)));
}

bool Parser::is_tuple_end(std::string_view end_name) const {
  return current().kind == TokenKind::variable_end || current().kind == TokenKind::block_end || is_op(")") ||
         (!end_name.empty() && is_name(end_name));
}

// One expression, or several with commas: then a tuple.
const Expr* Parser::parse_tuple(TupleOf what, std::string_view end_name) {
  std::vector<const Expr*> items;
  bool is_tuple = false;
  while (!is_tuple_end(end_name)) {
    items.push_back(
        what == TupleOf::targets
            ? parse_primary()
            : parse_expression(what == TupleOf::unconditional ? Conditional::no : Conditional::allowed));
    if (!skip_op(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return items[0];
  if (!is_tuple && what != TupleOf::parenthesized) fail_expected("an expression");
  auto* tuple = make<SequenceExpr>();
  tuple->kind = Kind::tuple;
  tuple->items = std::move(items);
  return tuple;
}

const Expr* Parser::parse_list() {
  auto* list = make<SequenceExpr>();
  expect_op("[");
  while (!is_op("]")) {
    list->items.push_back(parse_expression());
    if (!is_op("]")) expect_op(",");
  }
  expect_op("]");
  return list;
}

const Expr* Parser::parse_dict() {
  auto* dict = make<DictExpr>();
  expect_op("{");
  while (!is_op("}")) {
    const Expr* key = parse_expression();
    expect_op(":");
    dict->items.emplace_back(key, parse_expression());
    if (!is_op("}")) expect_op(",");
  }
  expect_op("}");
  return dict;
}

const Expr* Parser::parse_postfix(const Expr* expr) {
  while (true) {
    if (is_op(".")) {
      expr = parse_attribute(expr);
    } else if (is_op("[")) {
      expr = parse_subscript(expr);
    } else if (is_op("(")) {
      expr = parse_call(expr);
    } else {
      return expr;
    }
  }
}

const Expr* Parser::parse_filters_and_tests(const Expr* expr) {
  while (true) {
    if (is_op("|")) {
      expr = parse_filter_chain(expr);
    } else if (is_name("is")) {
      expr = parse_test(expr);
    } else if (is_op("(")) {
      expr = parse_call(expr);
    } else {
      return expr;
    }
  }
}

const Expr* Parser::parse_attribute(const Expr* object) {
  next();
  if (current().kind == TokenKind::integer) {
    auto* item = make<ItemExpr>();
    item->object = object;
    item->index = literal(Value(next().integer));
    return item;
  }
  auto* attribute = make<AttributeExpr>();
  attribute->object = object;
  attribute->name = intern(expect_any_name());
  return attribute;
}

const Expr* Parser::parse_slice_part() {
  return is_op(":") || is_op("]") || is_op(",") ? nullptr : parse_expression();
}

const Expr* Parser::parse_subscript(const Expr* object) {
  const Level level(*this);
  next();
  const Expr* first = parse_slice_part();
  if (!is_op(":")) {
    if (first == nullptr) fail_expected("an index");
    auto* item = make<ItemExpr>();
    item->object = object;
    item->index = first;
    if (is_op(",")) {
      auto* tuple = make<SequenceExpr>();
      tuple->kind = Kind::tuple;
      tuple->items.push_back(first);
      while (skip_op(",")) tuple->items.push_back(parse_expression());
      item->index = tuple;
    }
    expect_op("]");
    return item;
  }
  auto* slice = make<SliceExpr>();
  slice->object = object;
  slice->start = first;
  next();
  slice->stop = parse_slice_part();
  if (skip_op(":")) slice->step = parse_slice_part();
  expect_op("]");
  return slice;
}

const CallExpr* Parser::parse_call(const Expr* callee) {
  auto* call = make<CallExpr>();
  call->callee = callee;
  call->method = dynamic_cast<const AttributeExpr*>(callee);
  call->arguments = parse_arguments();
  return call;
}

Arguments Parser::parse_arguments() {
  const Level level(*this);
  Arguments arguments;
  expect_op("(");
  while (!is_op(")")) {
    parse_argument(arguments);
    if (!is_op(")")) expect_op(",");
  }
  expect_op(")");
  return arguments;
}

void Parser::parse_argument(Arguments& arguments) {
  const bool is_named =
      current().kind == TokenKind::name && look().kind == TokenKind::op && look().text == "=";
  if (arguments.more_named != nullptr) fail("nothing can follow ** in a call");
  if (skip_op("*")) {
    if (arguments.more_positional != nullptr) fail("a second * in a call");
    arguments.more_positional = parse_expression();
  } else if (skip_op("**")) {
    arguments.more_named = parse_expression();
  } else if (is_named) {
    Value name = intern(next().text);
    const auto is_same_name = [&](const auto& argument) { return is_same(argument.first, name); };
    if (std::ranges::any_of(arguments.named, is_same_name)) fail("an argument is named twice in a call");
    next();
    arguments.named.emplace_back(std::move(name), parse_expression());
  } else {
    if (arguments.more_positional != nullptr || !arguments.named.empty()) {
      fail("an argument without a name follows a named one");
    }
    arguments.positional.push_back(parse_expression());
  }
}

std::string Parser::parse_dotted_name() {
  std::string name = expect_any_name();
  while (skip_op(".")) name += "." + expect_any_name();
  return name;
}

void Parser::note_unknown(const Token& token, std::string text) {
  if (!is_soft_) unknown_.push_back({token.offset, std::move(text)});
}

const FilterExpr* Parser::parse_filter(const Expr* input) {
  const Token& token = current();
  auto* filter = make<FilterExpr>();
  filter->input = input;
  filter->name = parse_dotted_name();
  filter->filter = find_filter(filter->name);
  if (filter->filter == nullptr) note_unknown(token, fmt::format("there is no filter '{}'", filter->name));
  if (is_op("(")) filter->arguments = parse_arguments();
  return filter;
}

const FilterExpr* Parser::parse_filter_chain(const Expr* input) {
  const FilterExpr* filter = nullptr;
  while (skip_op("|")) {
    filter = parse_filter(input);
    input = filter;
  }
  return filter;
}

const Expr* Parser::parse_test(const Expr* input) {
  next();
  auto* test = make<TestExpr>();
  const bool is_negated = skip_name("not");
  const Token& token = current();
  test->input = input;
  test->name = parse_dotted_name();
  test->test = find_test(test->name);
  if (test->test == nullptr) note_unknown(token, fmt::format("there is no test '{}'", test->name));
  const bool is_value =
      (current().kind >= TokenKind::name && current().kind <= TokenKind::real) || is_op("[") || is_op("{");
  if (is_op("(")) {
    test->arguments = parse_arguments();
  } else if (is_value && !is_name("else") && !is_name("or") && !is_name("and")) {
    if (is_name("is")) fail("tests cannot be chained with is");
    test->arguments.positional.push_back(parse_postfix(parse_primary()));
  }
  if (!is_negated) return test;
  auto* negation = make<NotExpr>();
  negation->operand = test;
  return negation;
}

}  // namespace millrace::jinja
