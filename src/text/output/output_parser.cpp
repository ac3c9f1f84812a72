#include "text/output/output_parser.h"

#include <algorithm>
#include <utility>

#include "text/output/loose_json.h"

namespace millrace {
namespace {

using Kind = OutputEvent::Kind;

bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '.';
}

// Whether a name and "(" stand at the beginning; nothing where that is not seen yet.
std::optional<bool> begins_with_call(std::string_view text) {
  const auto end = std::ranges::find_if_not(text, is_name_char);
  if (end == text.end()) return std::nullopt;
  return end != text.begin() && *end == '(';
}

}  // namespace

OutputParser::OutputParser(const ToolSyntax& syntax, const Options& options)
    : syntax_(syntax), options_(options), pending_(options.begun), trims_(options.begins_in_reasoning) {
  if (options.begins_in_reasoning) {
    state_ = State::reasoning;
  } else if (options.has_tools && syntax.is_whole_answer && !options.is_held) {
    state_ = State::begin;
  }
  const auto watch = [&](const std::vector<std::string_view>& tokens) {
    watched_.insert(watched_.end(), tokens.begin(), tokens.end());
  };
  if (options.has_reasoning) watch(syntax.reasoning_begins);
  watch(silent_signs_of(syntax));
  if (options.has_tools && syntax.shape != ToolSyntax::Shape::none) watch(syntax.begins);
}

std::vector<OutputEvent> OutputParser::push(std::string_view text) {
  pending_ += text;
  while (step(false)) {
  }
  return std::exchange(events_, {});
}

std::vector<OutputEvent> OutputParser::flush() {
  while (step(true)) {
  }
  if (!is_in_call_ && state_ != State::reasoning && !pending_.empty()) emit(Kind::content, pending_);
  if (is_in_call_) end_call();
  if (state_ == State::content && !trims_ && !held_blanks_.empty())
    events_.push_back({Kind::content, std::exchange(held_blanks_, {})});
  pending_.clear();
  return std::exchange(events_, {});
}

// Goes on by one part of the text; false where more of it is needed.
bool OutputParser::step(bool is_last) {
  switch (state_) {
    case State::begin:
      return step_begin(is_last);
    case State::content:
    case State::reasoning:
      return step_text(is_last);
    case State::open:
      return step_open();
    case State::list:
      return step_list();
    case State::object:
      return step_object();
    case State::name:
      return step_name();
    case State::arguments:
      return step_arguments();
    case State::members:
      return step_members();
    case State::key:
      return step_key();
    case State::value:
      return step_value(is_last);
    case State::braces:
      return step_braces();
    case State::keywords:
      return step_keywords();
    case State::close:
      return step_close(is_last);
  }
  return false;
}

OutputParser::Found OutputParser::find(const std::vector<std::string_view>& tokens, bool is_last) const {
  Found best{pending_.size(), {}};
  for (const std::string_view token : tokens) {
    const size_t at = pending_.find(token);
    if (at < best.at || (at == best.at && at != std::string::npos && token.size() > best.token.size()))
      best = {at, token};
  }
  if (is_last) return best;
  // A longer token, or one that begins earlier, may still come of what stands at the end.
  for (const std::string_view token : tokens) {
    const size_t longest = std::min(token.size() - 1, pending_.size());
    for (size_t n = longest; n > 0; --n) {
      if (!token.starts_with(std::string_view(pending_).substr(pending_.size() - n))) continue;
      const size_t at = pending_.size() - n;
      if (at < best.at || (at == best.at && !best.token.empty())) best = {at, {}};
      break;
    }
  }
  return best;
}

bool OutputParser::step_text(bool is_last) {
  const bool is_reasoning = state_ == State::reasoning;
  if (!is_reasoning && is_in_form(is_last)) {
    emit(Kind::content, std::exchange(pending_, {}));
    return false;
  }
  const Found found = find(is_reasoning ? syntax_.reasoning_ends : watched_, is_last);
  emit(is_reasoning ? Kind::reasoning : Kind::content, std::string_view(pending_).substr(0, found.at));
  pending_.erase(0, found.at);
  if (found.token.empty()) return false;
  const auto is_one_of = [&](const std::vector<std::string_view>& tokens) {
    return std::ranges::find(tokens, found.token) != tokens.end();
  };
  pending_.erase(0, found.token.size());
  held_blanks_.clear();
  trims_ = true;
  if (is_reasoning) {
    state_ = State::content;
  } else if (is_one_of(syntax_.reasoning_begins)) {
    state_ = State::reasoning;
  } else if (options_.has_tools && is_one_of(syntax_.begins)) {
    state_ = State::open;
  }
  return true;
}

// A form begins with what is neither blank nor a sign.
bool OutputParser::is_in_form(bool is_last) {
  if (!options_.is_held || has_begun_form_) return has_begun_form_;
  const std::string_view text = trimmed(pending_);
  has_begun_form_ = !text.empty() && std::ranges::none_of(watched_, [&](std::string_view sign) {
    return text.starts_with(sign) || (!is_last && sign.starts_with(text));
  });
  return has_begun_form_;
}

// Where a call needs no sign: is the answer one?
bool OutputParser::step_begin(bool is_last) {
  if (!skip_blanks()) return false;
  bool is_call = pending_[0] == '{';
  if (syntax_.shape == ToolSyntax::Shape::python) {
    const std::string_view text = pending_;
    const auto known = text[0] == '[' ? begins_with_call(trimmed(text.substr(1))) : false;
    if (!known && !is_last) return false;
    is_call = known.value_or(false);
  }
  state_ = is_call ? State::open : State::content;
  return true;
}

// A call, or a list of them, begins here.
bool OutputParser::step_open() {
  if (!skip_blanks()) return false;
  forget_call();
  switch (syntax_.shape) {
    case ToolSyntax::Shape::list:
    case ToolSyntax::Shape::python:
      is_in_list_ = take("[");
      state_ = is_in_list_ ? State::list : State::content;
      return true;
    case ToolSyntax::Shape::object:
      state_ = pending_[0] == '{' ? State::object : State::content;
      return true;
    default:
      state_ = State::name;
      return true;
  }
}

bool OutputParser::step_list() {
  if (!skip_blanks()) return false;
  if (take(",")) return true;
  if (pending_[0] == '{') {
    forget_call();
    state_ = State::object;
    return true;
  }
  if (!take("]") && syntax_.shape == ToolSyntax::Shape::python) {
    const auto is_call = begins_with_call(pending_);
    if (!is_call) return false;
    forget_call();
    is_in_list_ = *is_call;
    state_ = *is_call ? State::name : State::content;
    return true;
  }
  is_in_list_ = false;
  state_ = State::close;
  return true;
}

bool OutputParser::JsonScan::takes(char c) {
  if (is_in_string) {
    if (is_escaped) {
      is_escaped = false;
    } else if (c == '\\') {
      is_escaped = true;
    } else if (c == '"') {
      is_in_string = false;
      return depth == 0;
    }
    return false;
  }
  has_begun |= !is_blank(c);
  if (c == '"') is_in_string = true;
  if (c == '{' || c == '[') ++depth;
  if (c == '}' || c == ']') return --depth == 0;
  return false;
}

// {"name": ..., "arguments": ...}: one key and one value at a time.
bool OutputParser::step_object() {
  if (!skip_blanks()) return false;
  if (take("{") || take(",")) return true;
  if (take("}")) {
    if (!is_in_call_ && !name_.empty()) {
      begin_call(name_);
      emit(Kind::arguments, early_arguments_.empty() ? "{}" : early_arguments_);
    }
    if (is_in_call_) end_call();
    state_ = is_in_list_ ? State::list : State::close;
    return true;
  }
  if (pending_[0] != '"') {  // no JSON: what is left is content
    if (is_in_call_) end_call();
    is_in_list_ = false;
    state_ = State::content;
    return true;
  }
  // The key with its colon must be there whole.
  size_t end = 1;
  while (end < pending_.size() && pending_[end] != '"') end += pending_[end] == '\\' ? 2 : 1;
  size_t colon = end + 1;
  while (colon < pending_.size() && is_blank(pending_[colon])) ++colon;
  if (colon >= pending_.size()) return false;
  size_t value = colon + 1;
  while (value < pending_.size() && is_blank(pending_[value])) ++value;
  if (value >= pending_.size()) return false;
  key_ = pending_.substr(1, end - 1);
  pending_.erase(0, pending_[colon] == ':' ? value : colon);
  scan_ = {};
  if (key_ == syntax_.name_key) name_.clear();
  if (syntax_.name_key.empty() && !is_in_call_) {
    begin_call(key_);
  } else if (is_arguments_key() && !name_.empty() && !is_in_call_) {
    begin_call(name_);
  }
  state_ = State::arguments;
  return true;
}

bool OutputParser::is_arguments_key() const {
  return syntax_.name_key.empty()
             ? key_ == name_
             : std::ranges::find(syntax_.arguments_keys, key_) != syntax_.arguments_keys.end();
}

// A JSON value: the arguments, or another member of an object.
bool OutputParser::step_arguments() {
  const bool is_named = syntax_.shape == ToolSyntax::Shape::named;
  const bool is_arguments = is_named || is_arguments_key();
  size_t n = 0;
  bool is_whole = false;
  while (n < pending_.size() && !is_whole) {
    const char c = pending_[n];
    const bool is_bare_end = scan_.depth == 0 && !scan_.is_in_string && scan_.has_begun &&
                             (c == ',' || c == '}' || c == ']' || c == '<' || is_blank(c));
    if (is_bare_end) {
      is_whole = true;
      break;
    }
    is_whole = scan_.takes(c);
    ++n;
  }
  const std::string part = pending_.substr(0, n);
  pending_.erase(0, n);
  if (is_arguments && is_in_call_) {
    emit(Kind::arguments, part);
  } else if (is_arguments) {
    early_arguments_ += part;
  } else if (!syntax_.name_key.empty() && key_ == syntax_.name_key) {
    name_ += part;
  }
  if (!is_whole) return false;
  if (is_named) {
    end_call();
    state_ = State::close;
    return true;
  }
  if (key_ == syntax_.name_key && name_.size() >= 2) {
    try {
      name_ = Json::parse(name_, "the name of a call").as_string();
    } catch (const Error&) {
      name_ = std::string(trimmed(name_));
    }
  }
  state_ = State::object;
  return true;
}

bool OutputParser::step_name() {
  constexpr size_t kMaxName = 256;
  // The name ends at its sign, or, where there is none, at the first member or the end of the call.
  std::vector<std::string_view> ends;
  if (!syntax_.name_end.empty()) {
    ends.push_back(syntax_.name_end);
  } else {
    ends = {"\n", syntax_.member_begin, syntax_.end};
  }
  const Found found = find(ends, false);
  if (found.token.empty()) {
    if (found.at > kMaxName) state_ = State::content;
    return found.at > kMaxName;
  }
  std::string_view name = trimmed(std::string_view(pending_).substr(0, found.at));
  if (!syntax_.index_begin.empty()) name = trimmed(name.substr(0, name.find(syntax_.index_begin)));
  name = name.substr(0, name.find(' '));
  begin_call(name);
  pending_.erase(
      0, found.at +
             (found.token == syntax_.member_begin || found.token == syntax_.end ? 0 : found.token.size()));
  if (syntax_.shape == ToolSyntax::Shape::members) emit(Kind::arguments, "{");
  state_ = state_behind_name(syntax_.shape);
  if (state_ == State::braces || state_ == State::keywords) scan_.depth = 1;
  return true;
}

OutputParser::State OutputParser::state_behind_name(ToolSyntax::Shape shape) {
  switch (shape) {
    case ToolSyntax::Shape::members:
      return State::members;
    case ToolSyntax::Shape::braces:
      return State::braces;
    case ToolSyntax::Shape::python:
      return State::keywords;
    default:
      return State::arguments;
  }
}

bool OutputParser::step_members() {
  if (!skip_blanks()) return false;
  const auto may_become = [&](std::string_view token) {
    return pending_.size() < token.size() && token.starts_with(pending_);
  };
  if (may_become(syntax_.member_begin) || may_become(syntax_.end)) return false;
  if (!take(syntax_.member_begin)) {
    emit(Kind::arguments, "}");
    end_call();
    state_ = State::close;
    return true;
  }
  state_ = State::key;
  return true;
}

bool OutputParser::step_key() {
  const auto key = take_up_to(syntax_.key_end);
  if (!key) return false;
  key_ = std::string(trimmed(*key));
  scan_ = {};
  is_json_member_.reset();
  state_ = State::value;
  return true;
}

// A value must be there whole: its type is known only then.
bool OutputParser::step_value(bool is_last) {
  if (!is_json_member_) is_json_member_ = begins_as_json();
  if (!is_json_member_) return false;
  auto text = *is_json_member_ ? take_json_up_to(syntax_.value_end) : take_up_to(syntax_.value_end);
  if (!text && is_last) {  // a quote that nothing closes hides no tag
    has_open_quote_ = true;
    n_searched_ = 0;
    text = take_up_to(syntax_.value_end);
  }
  if (!text) return false;
  std::string_view value = *text;
  for (const std::string_view begin : {syntax_.value_begin, syntax_.json_begin}) {
    if (begin.empty() || !trimmed(value).starts_with(trimmed(begin))) continue;
    value.remove_prefix(value.find(begin) + begin.size());
    break;
  }
  if (value.starts_with('\n')) value.remove_prefix(1);
  if (value.ends_with('\n')) value.remove_suffix(1);
  emit(Kind::arguments,
       (n_members_++ == 0 ? "" : ", ") + Json(key_).dump() + ": " + member_json(std::string(value)));
  state_ = State::members;
  return true;
}

// All up to the last brace must be there: keys, and where texts end, show only then.
bool OutputParser::step_braces() {
  const std::string_view quote = syntax_.value_begin;
  while (n_searched_ < pending_.size()) {
    const std::string_view rest = std::string_view(pending_).substr(n_searched_);
    if (!scan_.is_in_string && rest.size() < quote.size() && quote.starts_with(rest)) return false;
    if (!scan_.is_in_string && rest.starts_with(quote)) {
      is_in_text_ = !is_in_text_;
      n_searched_ += quote.size();
      continue;
    }
    ++n_searched_;
    if (is_in_text_ || !scan_.takes(rest[0]) || rest[0] == '"') continue;
    const std::string object = "{" + pending_.substr(0, n_searched_);
    pending_.erase(0, n_searched_);
    const auto arguments = read_loose_json(object, quote);
    emit(Kind::arguments, arguments ? arguments->dump() : object);
    end_call();
    state_ = State::close;
    return true;
  }
  return false;
}

// The same of a call of a function, up to its last parenthesis.
bool OutputParser::step_keywords() {
  for (; n_searched_ < pending_.size(); ++n_searched_) {
    const char c = pending_[n_searched_];
    if (scan_.is_escaped) {
      scan_.is_escaped = false;
    } else if (python_quote_ != '\0') {
      scan_.is_escaped = c == '\\';
      if (c == python_quote_) python_quote_ = '\0';
    } else if (c == '"' || c == '\'') {
      python_quote_ = c;
    } else if (c == '(' || c == '[' || c == '{') {
      ++scan_.depth;
    } else if ((c == ')' || c == ']' || c == '}') && --scan_.depth == 0) {
      const std::string inside = pending_.substr(0, n_searched_);
      pending_.erase(0, n_searched_ + 1);
      const auto arguments = read_keyword_arguments(inside);
      emit(Kind::arguments, arguments ? arguments->dump() : inside);
      end_call();
      state_ = State::list;
      return true;
    }
  }
  return false;
}

// What was searched in vain is not searched again: a long value comes in many pieces.
std::optional<std::string> OutputParser::take_up_to(std::string_view token) {
  const size_t at = pending_.find(token, n_searched_);
  if (at == std::string::npos) {
    n_searched_ = pending_.size() - std::min(pending_.size(), token.size() - 1);
    return std::nullopt;
  }
  n_searched_ = 0;
  std::string before = pending_.substr(0, at);
  pending_.erase(0, at + token.size());
  return before;
}

// The same, but a token within a string of the JSON text says nothing.
std::optional<std::string> OutputParser::take_json_up_to(std::string_view token) {
  for (; n_searched_ + token.size() <= pending_.size(); ++n_searched_) {
    if (!scan_.is_in_string && std::string_view(pending_).substr(n_searched_).starts_with(token))
      return take_up_to(token);
    scan_.takes(pending_[n_searched_]);
  }
  return std::nullopt;
}

// Whether the tool's schema wants text of the member.
bool OutputParser::is_text_member() const {
  if (options_.tools == nullptr || !options_.tools->is_array()) return false;
  for (const Json& tool : options_.tools->as_array()) {
    const Json* function = tool.find("function");
    const Json* name = function == nullptr ? nullptr : function->find("name");
    if (name == nullptr || *name != Json(name_)) continue;
    const Json* parameters = function->find("parameters");
    const Json* properties = parameters == nullptr ? nullptr : parameters->find("properties");
    const Json* member = properties == nullptr ? nullptr : properties->find(key_);
    const Json* type = member == nullptr ? nullptr : member->find("type");
    return type != nullptr && *type == Json("string");
  }
  return false;
}

// Whether the value is JSON text in whose strings anything may stand; nothing where that is not seen yet.
std::optional<bool> OutputParser::begins_as_json() const {
  std::string_view value = trimmed(pending_);
  if (!syntax_.json_begin.empty()) {
    const std::string_view text = trimmed(syntax_.value_begin), json = trimmed(syntax_.json_begin);
    if (text.starts_with(value) || json.starts_with(value)) return std::nullopt;
    return value.starts_with(json) && !has_open_quote_;
  }
  if (value.starts_with(syntax_.value_begin)) {
    value = trimmed(value.substr(syntax_.value_begin.size()));
  } else if (syntax_.value_begin.starts_with(value)) {
    return std::nullopt;
  }
  if (value.empty()) return std::nullopt;
  return !has_open_quote_ && !is_text_member() &&
         std::string_view("[{\"").find(value[0]) != std::string_view::npos;
}

// Text where the tool's schema wants text, or the tag says so, else the JSON that it is.
std::string OutputParser::member_json(const std::string& value) const {
  if (syntax_.json_begin.empty() ? is_text_member() : !*is_json_member_) return Json(value).dump();
  try {
    return Json::parse(trimmed(value), "a value").dump();
  } catch (const Error&) {
  }
  const bool is_nested = trimmed(value).starts_with('[') || trimmed(value).starts_with('{');
  const auto loose = is_nested ? read_loose_json(value, {}) : std::nullopt;
  return loose ? loose->dump() : Json(value).dump();
}

// Behind a call: its closing sign, where there is one.
bool OutputParser::step_close(bool is_last) {
  if (!skip_blanks()) return false;
  const bool may_come =
      !syntax_.end.empty() && pending_.size() < syntax_.end.size() && syntax_.end.starts_with(pending_);
  if (may_come && !is_last) return false;
  if (!syntax_.end.empty()) take(syntax_.end);
  trims_ = true;
  state_ = State::content;
  // More calls may follow each other without a sign of their own.
  return true;
}

void OutputParser::emit(Kind kind, std::string_view text) {
  const bool is_text = kind == Kind::content || kind == Kind::reasoning;
  std::string joined;
  if (is_text) {
    // Blanks before and behind belong to the signs around the text.
    if (trims_)
      while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    if (text.empty()) return;
    trims_ = false;
    joined = held_blanks_ + std::string(text);
    size_t end = joined.size();
    while (end > 0 && is_blank(joined[end - 1])) --end;
    held_blanks_ = joined.substr(end);
    joined.resize(end);
    text = joined;
  }
  if (text.empty()) return;
  if (!events_.empty() && events_.back().kind == kind && kind != Kind::call_begin) {
    events_.back().text += text;
  } else {
    events_.push_back({kind, std::string(text)});
  }
}

void OutputParser::forget_call() {
  scan_ = {};
  key_.clear();
  name_.clear();
  early_arguments_.clear();
  n_members_ = 0;
  n_searched_ = 0;
  is_in_text_ = false;
  python_quote_ = '\0';
}

void OutputParser::begin_call(std::string_view name) {
  name_ = std::string(name);
  is_in_call_ = true;
  events_.push_back({Kind::call_begin, name_});
}

void OutputParser::end_call() {
  is_in_call_ = false;
  events_.push_back({Kind::call_end, {}});
}

// False where nothing but blanks is there.
bool OutputParser::skip_blanks() {
  size_t n = 0;
  while (n < pending_.size() && is_blank(pending_[n])) ++n;
  pending_.erase(0, n);
  return !pending_.empty();
}

bool OutputParser::take(std::string_view token) {
  if (token.empty() || !pending_.starts_with(token)) return false;
  pending_.erase(0, token.size());
  return true;
}

}  // namespace millrace
