#include "text/jinja/format.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/utf8.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/py_string.h"
#include "text/jinja/py_text.h"

namespace millrace::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;

// One pass over the format of a % operation.
class Printf {
 public:
  Printf(Heap& heap, const Value& format, const Value& arguments)
      : heap_(heap), format_(text_of(format)), is_markup_(is_markup(format)), arguments_(arguments) {}

  Value run() {
    while (at_ < format_.size()) {
      const size_t percent = std::min(format_.find('%', at_), format_.size());
      out_ += format_.substr(at_, percent - at_);
      at_ = percent + 1;
      if (percent < format_.size()) convert();
      heap_.step_bytes(64);
      heap_.expect_room(out_.size());
    }
    const bool is_single = !arguments_.is(Kind::tuple);
    // Whatever can be subscripted could have been a mapping of names.
    const bool may_be_unused = arguments_.is(Kind::dict) || arguments_.is(Kind::list) ||
                               arguments_.is(Kind::range) || arguments_.is_undefined();
    const size_t n = is_single ? 1 : arguments_.as<Sequence>().items.size();
    if (n_used_ < n && !may_be_unused) raise("not all arguments converted during string formatting");
    return make_string(heap_, std::move(out_), is_markup_);
  }

 private:
  char take() {
    if (at_ >= format_.size()) raise("incomplete format");
    return format_[at_++];
  }

  Value next_argument() {
    if (arguments_.is(Kind::tuple)) {
      const Values& items = arguments_.as<Sequence>().items;
      if (n_used_ >= items.size()) raise("not enough arguments for format string");
      return items[n_used_++];
    }
    if (n_used_++ > 0) raise("not enough arguments for format string");
    return arguments_;
  }

  Value named_argument() {
    const size_t end = format_.find(')', at_);
    if (end == format_.npos) raise("incomplete format key");
    if (!arguments_.is(Kind::dict)) raise("format requires a mapping");
    const std::string_view name = format_.substr(at_, end - at_);
    const Value* value = arguments_.as<Dict>().find(heap_, name);
    if (value == nullptr) raise("there is no '{}' for the format", printable(name));
    at_ = end + 1;
    n_used_ = 1;
    return *value;
  }

  int64_t read_number() {
    if (at_ < format_.size() && format_[at_] == '*') {
      ++at_;
      return int_argument(next_argument(), 0);
    }
    int64_t value = 0;
    while (at_ < format_.size() && format_[at_] >= '0' && format_[at_] <= '9') {
      value = std::min<int64_t>(value * 10 + (format_[at_++] - '0'), kMaxWidth + 1);
    }
    return value;
  }

  void convert() {
    Value value;
    if (at_ < format_.size() && format_[at_] == '(') {
      ++at_;
      value = named_argument();
    }
    std::string flags;
    while (at_ < format_.size() && std::string_view("-+ #0").find(format_[at_]) != std::string_view::npos) {
      flags += format_[at_++];
    }
    int64_t width = read_number();
    int64_t precision = -1;
    if (at_ < format_.size() && format_[at_] == '.') {
      ++at_;
      precision = std::max<int64_t>(read_number(), 0);
    }
    if (width < 0) flags += '-';
    if (std::abs(width) > kMaxWidth || precision > kMaxWidth) raise("a format asks for too many characters");
    while (at_ < format_.size() && std::string_view("hlL").find(format_[at_]) != std::string_view::npos)
      ++at_;
    const char type = take();
    if (type == '%') {
      out_ += '%';
      return;
    }
    if (value.is_missing()) value = next_argument();
    const auto has = [&](char flag) { return flags.find(flag) != flags.npos; };
    write(value, type, precision, std::abs(width), has);
  }

  template <class Has>
  void write(const Value& value, char type, int64_t precision, int64_t width, const Has& has) {
    std::string text;
    bool is_number = true;
    switch (type) {
      case 'd':
      case 'i':
      case 'u':
        text = decimal(value, precision);
        break;
      case 'o':
      case 'x':
      case 'X':
        text = based(value, type, has('#'));
        break;
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        if (!value.is_number()) raise("must be real number, not {}", type_name(value));
        text = format_real(value.real(), type, precision < 0 ? 6 : precision, has('#'));
        break;
      case 'c':
      case 's':
      case 'r':
      case 'a':
        text = words(value, type, precision);
        is_number = false;
        break;
      default:
        raise("unsupported format character '{}'", printable(std::string_view(&type, 1)));
    }
    if (is_number && text[0] != '-' && (has('+') || has(' '))) text.insert(0, 1, has('+') ? '+' : ' ');
    const bool is_zero_filled = is_number && has('0') && !has('-');
    if (!is_zero_filled) {
      out_ += pad(heap_, text, {" ", has('-') ? '<' : '>', width});
      return;
    }
    const bool has_prefix = has('#') && (type == 'x' || type == 'X' || type == 'o');
    const size_t n_head = (text.find_first_of("+- ") == 0 ? 1 : 0) + (has_prefix ? 2 : 0);
    out_ += text.substr(0, n_head);
    out_ += pad(heap_, text.substr(n_head), {"0", '>', width - static_cast<int64_t>(n_head)});
  }

  std::string decimal(const Value& value, int64_t precision) {
    if (value.is_undefined()) raise_undefined(value);
    if (!value.is_number()) raise("%d format: a real number is required, not {}", type_name(value));
    if (value.is(Kind::real) && !(std::fabs(value.real()) < 0x1p63)) raise("cannot convert float to integer");
    const int64_t integer = value.is(Kind::real) ? static_cast<int64_t>(value.real()) : value.integer();
    std::string text = std::to_string(integer);
    const size_t n_sign = integer < 0 ? 1 : 0;
    if (precision > static_cast<int64_t>(text.size() - n_sign)) {
      text.insert(n_sign, static_cast<size_t>(precision) - (text.size() - n_sign), '0');
    }
    return text;
  }

  std::string based(const Value& value, char type, bool is_alternate) {
    if (!value.is_integral()) raise("%{} format: an integer is required, not {}", type, type_name(value));
    return format_value(heap_, value, std::string(is_alternate ? "#" : "") + type);
  }

  std::string words(const Value& value, char type, int64_t precision) {
    std::string text;
    if (type == 'c' && value.is_integral()) {
      text = format_value(heap_, value, "c");
    } else if (type == 'c' && (!value.is_string() || length_of(value) != 1)) {
      raise("%c requires int or char");
    } else {
      text = type == 's' || type == 'c' ? to_str(heap_, value) : to_repr(heap_, value);
    }
    if (is_markup_ && !is_markup(value)) text = html_escape(text);
    if (precision < 0) return text;
    return text.substr(0, byte_of_char(text, static_cast<size_t>(precision)));
  }

  Heap& heap_;
  std::string_view format_;
  bool is_markup_;
  const Value& arguments_;
  size_t at_ = 0;
  size_t n_used_ = 0;
  std::string out_;
};

class Braces {
 public:
  Braces(Interpreter& interpreter, const Call& call) : in_(interpreter), call_(call) {}

  std::string run(std::string_view format, int depth = 0) {
    if (depth > 2) raise("Max string recursion exceeded");
    std::string out;
    for (size_t at = 0; at < format.size();) {
      in_.heap().step();
      in_.heap().expect_room(out.size());
      const char c = format[at];
      const bool is_double = at + 1 < format.size() && format[at + 1] == c;
      if ((c == '{' || c == '}') && is_double) {
        out += c;
        at += 2;
      } else if (c == '}') {
        raise("Single '}}' encountered in format string");
      } else if (c == '{') {
        const size_t end = field_end(format, at);
        out += field(format.substr(at + 1, end - at - 1), depth);
        at = end + 1;
      } else {
        out += c;
        ++at;
      }
    }
    return out;
  }

 private:
  // Where the field that opens at `at` closes.
  static size_t field_end(std::string_view format, size_t at) {
    int n_open = 0;
    for (; at < format.size(); ++at) {
      if (format[at] == '{') ++n_open;
      if (format[at] == '}' && --n_open == 0) return at;
    }
    raise("expected '}}' before end of string");
  }

  // name!conversion:spec
  std::string field(std::string_view field, int depth) {
    size_t end = 0;
    bool is_in_index = false;
    while (end < field.size() && (is_in_index || (field[end] != '!' && field[end] != ':'))) {
      if (field[end] == '[') is_in_index = true;
      if (field[end] == ']') is_in_index = false;
      ++end;
    }
    Value value = find(field.substr(0, end));
    std::string_view rest = field.substr(end);
    if (rest.starts_with('!')) {
      if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':'))
        raise("expected ':' after conversion specifier");
      value = converted(value, rest[1]);
      rest.remove_prefix(2);
    }
    if (!rest.empty()) rest.remove_prefix(1);
    const std::string spec = run(rest, depth + 1);
    const bool escapes = is_markup(call_.self) && !is_markup(value);
    const std::string text = format_value(in_.heap(), value, spec);
    return escapes ? html_escape(text) : text;
  }

  Value converted(const Value& value, char how) {
    if (how == 's') return make_string(in_.heap(), to_str(in_.heap(), value));
    if (how == 'r' || how == 'a') return make_string(in_.heap(), to_repr(in_.heap(), value));
    raise("Unknown conversion specifier '{}'", printable(std::string_view(&how, 1)));
  }

  Value find(std::string_view path) {
    const size_t n_first = std::min(path.find_first_of(".["), path.size());
    Value value = first(path.substr(0, n_first));
    for (size_t at = n_first; at < path.size();) {
      const bool is_index = path[at] == '[';
      const size_t end =
          is_index ? path.find(']', at) : std::min(path.find_first_of(".[", at + 1), path.size());
      if (end == path.npos) raise("Missing ']' in format string");
      const std::string_view name = path.substr(at + 1, end - at - 1);
      if (name.empty()) raise("Empty attribute in format string");
      value = is_index ? get_item(in_, value, index(name))
                       : get_attribute(in_, value, make_string(in_.heap(), std::string(name)));
      at = end + (is_index ? 1 : 0);
      if (is_index && at < path.size() && path[at] != '.' && path[at] != '[') {
        raise("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  Value index(std::string_view name) {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && end == name.data() + name.size() && name[0] != '-') return Value(number);
    return make_string(in_.heap(), std::string(name));
  }

  Value first(std::string_view name) {
    if (name.empty()) {
      if (is_manual_) raise("cannot switch from manual field specification to automatic field numbering");
      is_automatic_ = true;
      return positional(n_automatic_++);
    }
    size_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && end == name.data() + name.size()) {
      if (is_automatic_) raise("cannot switch from automatic field numbering to manual field specification");
      is_manual_ = true;
      return positional(number);
    }
    for (const auto& [known, value] : call_.named) {
      if (text_of(known) == name) return value;
    }
    raise("there is no '{}' for the format", printable(name));
  }

  Value positional(size_t index) {
    if (index >= call_.positional.size()) raise("Replacement index {} out of range", index);
    return call_.positional[index];
  }

  Interpreter& in_;
  const Call& call_;
  size_t n_automatic_ = 0;
  bool is_automatic_ = false;
  bool is_manual_ = false;
};

}  // namespace

Value format_printf(Heap& heap, const Value& format, const Value& arguments) {
  return Printf(heap, format, arguments).run();
}

Value format_braces(Interpreter& interpreter, const Call& call) {
  std::string text = Braces(interpreter, call).run(text_of(call.self));
  return make_string(interpreter.heap(), std::move(text), is_markup(call.self));
}

}  // namespace millrace::jinja
