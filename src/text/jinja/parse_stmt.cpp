// Statements, and the tokens under them.
#include <algorithm>

#include "base/error.h"
#include "text/jinja/parser.h"
#include "text/jinja/parser_impl.h"

namespace millrace::jinja {
namespace {

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::data:
      return "text";
    case TokenKind::block_begin:
      return "'{%'";
    case TokenKind::block_end:
      return "'%}'";
    case TokenKind::variable_begin:
      return "'{{'";
    case TokenKind::variable_end:
      return "'}}'";
    case TokenKind::string:
      return "a string";
    case TokenKind::integer:
    case TokenKind::real:
      return "a number";
    case TokenKind::end:
      return "the end of the template";
    case TokenKind::name:
    case TokenKind::op:
      return "'" + printable(token.text, 40) + "'";
  }
  return {};
}

// Sets a variable for as long as this object lives.
template <class T>
class Saved {
 public:
  Saved(T& variable, T value) : variable_(variable), old_(std::exchange(variable, value)) {}
  ~Saved() { variable_ = old_; }
  Saved(const Saved&) = delete;
  Saved& operator=(const Saved&) = delete;

 private:
  T& variable_;
  T old_;
};

}  // namespace

Parser::Parser(std::string_view source, const std::vector<Token>& tokens, Program& program)
    : tokens_(tokens), source_(source), program_(program) {
  program_.loop = name_id("loop");
  program_.caller = name_id("caller");
  program_.varargs = name_id("varargs");
  program_.kwargs = name_id("kwargs");
}

void Parser::run() {
  std::string found;
  program_.body = parse_body({}, &found);
  if (!unknown_.empty()) throw SyntaxError(unknown_[0].offset, unknown_[0].text);
}

const Token& Parser::next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }

bool Parser::is_op(std::string_view op) const {
  return current().kind == TokenKind::op && current().text == op;
}

bool Parser::is_name(std::string_view name) const {
  return current().kind == TokenKind::name && current().text == name;
}

bool Parser::skip_op(std::string_view op) { return is_op(op) && (next(), true); }
bool Parser::skip_name(std::string_view name) { return is_name(name) && (next(), true); }

void Parser::expect_op(std::string_view op) {
  if (!skip_op(op)) fail_expected(fmt::format("'{}'", op));
}

void Parser::expect_name(std::string_view name) {
  if (!skip_name(name)) fail_expected(fmt::format("'{}'", name));
}

void Parser::expect(TokenKind kind) {
  if (current().kind != kind) fail_expected(kind == TokenKind::block_end ? "'%}'" : "'}}'");
  next();
}

std::string Parser::expect_any_name() {
  if (current().kind != TokenKind::name) fail_expected("a name");
  return next().text;
}

void Parser::fail(std::string_view what) const { throw SyntaxError(current().offset, std::string(what)); }

void Parser::fail_expected(std::string_view what) const {
  fail(fmt::format("expected {}, found {}", what, describe(current())));
}

uint32_t Parser::line_of(const Token& token) {
  for (; line_counted_to_ < token.offset && line_counted_to_ < source_.size(); ++line_counted_to_) {
    line_ += source_[line_counted_to_] == '\n' ? 1 : 0;
  }
  return line_;
}

Value Parser::intern(std::string text) {
  const auto known = program_.strings.find(text);
  if (known != program_.strings.end()) return known->second;
  const Value value = make_string(program_.heap, std::move(text));
  program_.strings.emplace(text_of(value), value);
  return value;
}

NameId Parser::name_id(const std::string& name) {
  const auto known = program_.name_ids.find(name);
  if (known != program_.name_ids.end()) return known->second;
  const auto id = static_cast<NameId>(program_.names.size());
  program_.names.push_back(intern(name));
  program_.name_ids.emplace(text_of(program_.names.back()), id);
  return id;
}

// Text and tags up to a block that begins with one of `ends`, whose name is taken; no ends: up to the end.
Body Parser::parse_body(std::initializer_list<std::string_view> ends, std::string* found) {
  const Level level(*this);
  Body body;
  while (true) {
    switch (current().kind) {
      case TokenKind::data: {
        auto* text = make<TextStmt>();
        text->text = next().text;
        body.push_back(text);
        break;
      }
      case TokenKind::variable_begin:
        parse_print(body);
        break;
      case TokenKind::block_begin:
        next();
        if (current().kind == TokenKind::name && std::ranges::find(ends, current().text) != ends.end()) {
          std::string end = next().text;
          if (found != nullptr) *found = std::move(end);
          return body;
        }
        body.push_back(parse_statement());
        expect(TokenKind::block_end);
        break;
      default:
        if (ends.size() == 0) return body;
        fail_expected(fmt::format("'{{% {} %}}'", *(ends.end() - 1)));
    }
  }
}

// The body of a statement, after its own tag.
void Parser::parse_inner(Body& body, std::initializer_list<std::string_view> ends, std::string* found) {
  skip_op(":");
  expect(TokenKind::block_end);
  body = parse_body(ends, found);
}

void Parser::parse_print(Body& body) {
  auto* print = make<PrintStmt>();
  next();
  print->value = parse_tuple(TupleOf::expressions);
  expect(TokenKind::variable_end);
  body.push_back(print);
}

const Stmt* Parser::parse_statement() {
  if (current().kind != TokenKind::name) fail_expected("the name of a tag");
  using Parse = const Stmt* (Parser::*)();
  static constexpr std::pair<std::string_view, Parse> kStatements[] = {
      {"if", &Parser::parse_if},           {"set", &Parser::parse_set},
      {"for", &Parser::parse_for},         {"macro", &Parser::parse_macro},
      {"break", &Parser::parse_jump},      {"continue", &Parser::parse_jump},
      {"with", &Parser::parse_with},       {"filter", &Parser::parse_filter_block},
      {"call", &Parser::parse_call_block}, {"generation", &Parser::parse_generation},
      {"block", &Parser::parse_block},     {"print", &Parser::parse_print_statement},
  };
  for (const auto& [name, parse] : kStatements) {
    if (is_name(name)) return (this->*parse)();
  }
  for (std::string_view name : {"include", "import", "from", "extends"}) {
    if (is_name(name)) fail(fmt::format("'{}' needs other files, which a chat template cannot reach", name));
  }
  if (is_name("autoescape")) fail("'autoescape' is not supported: a prompt is no HTML");
  fail(fmt::format("there is no tag {}", describe(current())));
}

Target Parser::to_target(const Expr* expr) const {
  Target target;
  if (const auto* name = dynamic_cast<const NameExpr*>(expr)) {
    if (name->name == program_.loop && !open_loops_.empty()) fail("'loop' cannot be assigned to in a loop");
    target.name = name->name;
    return target;
  }
  const auto* tuple = dynamic_cast<const SequenceExpr*>(expr);
  if (tuple == nullptr || tuple->kind != Kind::tuple) fail("only names can be assigned to");
  target.kind = Target::Kind::tuple;
  for (const Expr* item : tuple->items) target.items.push_back(to_target(item));
  return target;
}

Target Parser::parse_target(std::string_view end_name, bool with_attribute) {
  if (!with_attribute || look().kind != TokenKind::op || look().text != ".") {
    return to_target(parse_tuple(TupleOf::targets, end_name));
  }
  Target target;
  target.kind = Target::Kind::attribute;
  target.name = name_id(expect_any_name());
  next();
  target.attribute = intern(expect_any_name());
  return target;
}

const Stmt* Parser::parse_if() {
  auto* branch = make<IfStmt>();
  const Saved<bool> soft(is_soft_, true);
  std::string found = "elif";
  while (found == "elif") {
    if (branch->branches.empty()) next();
    auto& [condition, body] = branch->branches.emplace_back();
    condition = parse_tuple(TupleOf::unconditional);
    parse_inner(body, {"elif", "else", "endif"}, &found);
  }
  if (found == "else") parse_inner(branch->otherwise, {"endif"});
  return branch;
}

const Stmt* Parser::parse_for() {
  auto* loop = make<ForStmt>();
  next();
  loop->target = parse_target("in", false);
  expect_name("in");
  loop->iterable = parse_tuple(TupleOf::unconditional, "recursive");
  const Saved<bool> soft(is_soft_, false);
  if (skip_name("if")) loop->test = parse_expression();
  loop->is_recursive = skip_name("recursive");
  std::string found;
  open_loops_.push_back(loop);
  ++n_loops_;
  parse_inner(loop->body, {"else", "endfor"}, &found);
  --n_loops_;
  open_loops_.pop_back();
  if (found == "else") parse_inner(loop->otherwise, {"endfor"});
  return loop;
}

const Stmt* Parser::parse_jump() {
  auto* jump = make<JumpStmt>();
  if (n_loops_ == 0) fail(fmt::format("'{}' outside of a loop", current().text));
  jump->flow = next().text == "break" ? Flow::is_break : Flow::is_continue;
  return jump;
}

const Stmt* Parser::parse_set() {
  next();
  const uint32_t line = line_of(current());
  Target target = parse_target({}, true);
  if (skip_op("=")) {
    auto* set = make<SetStmt>();
    set->line = line;
    set->target = std::move(target);
    set->value = parse_tuple(TupleOf::expressions);
    return set;
  }
  auto* set = make<SetBlockStmt>();
  set->target = std::move(target);
  const Saved<bool> soft(is_soft_, false);
  set->filter = parse_filter_chain(nullptr);
  parse_inner(set->body, {"endset"});
  return set;
}

const Stmt* Parser::parse_with() {
  auto* with = make<WithStmt>();
  next();
  while (current().kind != TokenKind::block_end) {
    if (!with->variables.empty()) expect_op(",");
    Target target = parse_target({}, false);
    expect_op("=");
    with->variables.emplace_back(std::move(target), parse_expression());
  }
  const Saved<bool> soft(is_soft_, false);
  parse_inner(with->body, {"endwith"});
  return with;
}

void Parser::parse_signature(MacroCode& code) {
  expect_op("(");
  while (!is_op(")")) {
    if (!code.parameters.empty()) expect_op(",");
    const std::string name = expect_any_name();
    MacroCode::Parameter parameter{name_id(name), name, nullptr};
    if (skip_op("=")) {
      parameter.default_value = parse_expression();
    } else if (!code.parameters.empty() && code.parameters.back().default_value != nullptr) {
      fail("a parameter without a default follows one with a default");
    }
    code.parameters.push_back(std::move(parameter));
  }
  expect_op(")");
}

void Parser::parse_macro_body(MacroCode& code, std::string_view end) {
  const Saved<bool> soft(is_soft_, false);
  const Saved<int> loops(n_loops_, 0);
  open_macros_.push_back(&code);
  parse_inner(code.body, {end});
  open_macros_.pop_back();
}

const Stmt* Parser::parse_macro() {
  auto* macro = make<MacroStmt>();
  next();
  macro->code.name = expect_any_name();
  macro->name = name_id(macro->code.name);
  parse_signature(macro->code);
  parse_macro_body(macro->code, "endmacro");
  for (const MacroCode::Parameter& parameter : macro->code.parameters) {
    if (parameter.name == program_.caller && parameter.default_value == nullptr && macro->code.reads_caller) {
      fail("the parameter 'caller' of a macro needs a default");
    }
  }
  return macro;
}

const Stmt* Parser::parse_call_block() {
  auto* block = make<CallBlockStmt>();
  next();
  if (is_op("(")) parse_signature(block->code);
  block->call = dynamic_cast<const CallExpr*>(parse_expression());
  if (block->call == nullptr) fail("expected a call after 'call'");
  block->code.name = "caller";
  parse_macro_body(block->code, "endcall");
  return block;
}

const Stmt* Parser::parse_generation() {
  auto* block = make<CallBlockStmt>();
  next();
  parse_macro_body(block->code, "endgeneration");
  return block;
}

const Stmt* Parser::parse_filter_block() {
  auto* block = make<FilterBlockStmt>();
  next();
  const Saved<bool> soft(is_soft_, false);
  const FilterExpr* first = parse_filter(nullptr);
  const FilterExpr* chain = parse_filter_chain(first);
  block->filter = chain != nullptr ? chain : first;
  parse_inner(block->body, {"endfilter"});
  return block;
}

const Stmt* Parser::parse_block() {
  auto* block = make<BlockStmt>();
  next();
  const std::string name = expect_any_name();
  if (std::ranges::find(block_names_, name) != block_names_.end()) {
    fail(fmt::format("the block '{}' is defined twice", printable(name)));
  }
  block_names_.push_back(name);
  skip_name("scoped");
  const Saved<bool> soft(is_soft_, false);
  const Saved<int> loops(n_loops_, 0);
  parse_inner(block->body, {"endblock"});
  skip_name(name);
  return block;
}

const Stmt* Parser::parse_print_statement() {
  auto* group = make<WithStmt>();  // a scope without variables
  next();
  while (current().kind != TokenKind::block_end) {
    if (!group->body.empty()) expect_op(",");
    auto* print = make<PrintStmt>();
    print->value = parse_expression();
    group->body.push_back(print);
  }
  return group;
}

std::unique_ptr<const Program> compile(std::string_view source) {
  auto program = std::make_unique<Program>();
  const std::string text = normalize_newlines(source);
  try {
    Parser(text, tokenize(text), *program).run();
  } catch (const SyntaxError& error) {
    const std::string_view before = std::string_view(text).substr(0, error.offset);
    const auto line = 1 + std::ranges::count(before, '\n');
    const size_t column =
        before.size() - (before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1) + 1;
    fail(ErrorKind::bad_model, "the chat template is broken at line {}, column {}: {}", line, column,
         error.what());
  }
  return program;
}

}  // namespace millrace::jinja
