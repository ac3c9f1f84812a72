// The mini-language of format(): [[fill]align][sign][#][0][width][,|_][.precision][type]
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "base/utf8.h"
#include "text/jinja/format.h"
#include "text/jinja/py_string.h"
#include "text/jinja/py_text.h"

namespace millrace::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxPrecision = 500;

struct Spec {
  std::string fill{};
  char align = '\0';
  char sign = '-';
  bool is_alternate = false;
  int64_t width = 0;
  char grouping = '\0';
  int64_t precision = -1;
  char type = '\0';
};

class SpecParser {
 public:
  explicit SpecParser(std::string_view text) : text_(text), whole_(text) {}

  Spec parse() {
    parse_align();
    if (!text_.empty() && std::string_view("+- ").find(text_[0]) != std::string_view::npos)
      spec_.sign = take();
    spec_.is_alternate = skip('#');
    if (skip('0') && spec_.align == '\0') {
      spec_.fill = spec_.fill.empty() ? "0" : spec_.fill;
      spec_.align = '=';
    }
    spec_.width = parse_number(kMaxWidth, 0);
    if (!text_.empty() && (text_[0] == ',' || text_[0] == '_')) spec_.grouping = take();
    if (skip('.')) {
      spec_.precision = parse_number(kMaxPrecision, -1);
      if (spec_.precision < 0) bad();
    }
    if (!text_.empty()) spec_.type = take();
    if (!text_.empty()) bad();
    return spec_;
  }

 private:
  [[noreturn]] void bad() const { raise("'{}' is no valid format specification", printable(whole_, 40)); }

  static bool is_align(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

  void parse_align() {
    if (text_.empty()) return;
    const auto n_fill = static_cast<size_t>(next_utf8(text_, 0).n_bytes);
    if (n_fill < text_.size() && is_align(text_[n_fill])) {
      spec_.fill = text_.substr(0, n_fill);
      spec_.align = text_[n_fill];
      text_.remove_prefix(n_fill + 1);
    } else if (is_align(text_[0])) {
      spec_.align = take();
    }
  }

  int64_t parse_number(int64_t max, int64_t missing) {
    int64_t value = missing;
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (end == text_.data()) return missing;
    if (error != std::errc() || value < 0 || value > max)
      raise("a format asks for more than {} characters", max);
    text_.remove_prefix(static_cast<size_t>(end - text_.data()));
    return value;
  }

  char take() {
    const char c = text_[0];
    text_.remove_prefix(1);
    return c;
  }
  bool skip(char c) { return !text_.empty() && text_[0] == c && (take(), true); }

  std::string_view text_;
  std::string_view whole_;
  Spec spec_;
};

[[noreturn]] void raise_type(const Spec& spec, const Value& value) {
  raise("unknown format code '{}' for object of type '{}'", spec.type, type_name(value));
}

std::string group_digits(std::string_view digits, char mark, size_t every) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % every == 0) out += mark;
    out += digits[i];
  }
  return out;
}

// sign + prefix + body, padded; zeros of '=' stand between prefix and body, and are grouped with it.
std::string finish_number(Heap& heap, const Spec& spec, bool is_negative, std::string_view prefix,
                          std::string body, size_t group_every) {
  std::string head = is_negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  head += prefix;
  const size_t n_whole = std::min(body.find_first_not_of("0123456789abcdefABCDEF"), body.size());
  std::string whole = body.substr(0, n_whole);
  const std::string rest = body.substr(n_whole);
  if (spec.grouping != '\0' && !whole.empty()) {
    const bool is_zero_filled = spec.align == '=' && spec.fill == "0";
    std::string grouped = group_digits(whole, spec.grouping, group_every);
    while (is_zero_filled && static_cast<int64_t>(head.size() + grouped.size() + rest.size()) < spec.width) {
      whole = "0" + whole;
      grouped = group_digits(whole, spec.grouping, group_every);
    }
    whole = std::move(grouped);
  }
  body = whole + rest;
  Padding padding{spec.fill.empty() ? " " : spec.fill, spec.align == '\0' ? '>' : spec.align, spec.width};
  if (padding.align != '=') return pad(heap, head + body, padding);
  padding.align = '>';
  padding.width -= static_cast<int64_t>(head.size());
  return head + pad(heap, body, padding);
}

std::string format_integer(Heap& heap, const Spec& spec, const Value& value) {
  if (spec.precision >= 0) raise("precision not allowed in integer format");
  const int64_t integer = value.integer();
  if (spec.type == 'c') {
    if (integer < 0 || integer > 0x10ffff || (integer >= 0xd800 && integer < 0xe000)) {
      raise("{} is no character", integer);
    }
    std::string text;
    append_utf8(text, static_cast<uint32_t>(integer));
    return pad(heap, text,
               {spec.fill.empty() ? " " : spec.fill, spec.align == '\0' ? '<' : spec.align, spec.width});
  }
  const uint64_t magnitude =
      integer < 0 ? 0 - static_cast<uint64_t>(integer) : static_cast<uint64_t>(integer);
  const char type = spec.type == '\0' || spec.type == 'n' ? 'd' : spec.type;
  const int base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'd' ? 10 : 16;
  if (base == 16 && type != 'x' && type != 'X') raise_type(spec, value);
  char buffer[72];
  std::string digits(buffer, std::to_chars(buffer, buffer + sizeof(buffer), magnitude, base).ptr);
  std::string prefix = spec.is_alternate && base != 10 ? std::string("0") + type : "";
  if (type == 'X') digits = to_upper(digits);
  return finish_number(heap, spec, integer < 0, prefix, std::move(digits), base == 10 ? 3 : 4);
}

// Without a type but with a precision: as 'g', but a number without exponent keeps a digit after the point.
std::string format_general(double value, int64_t precision) {
  precision = std::max<int64_t>(precision, 1);
  const std::string scientific = format_real(value, 'e', precision - 1);
  const int exponent = std::atoi(scientific.c_str() + scientific.find('e') + 1);
  std::string text;
  if (exponent < -4 || exponent + 1 > precision - 1) {
    const size_t e = scientific.find('e');
    text = scientific.substr(0, e);
    if (text.find('.') != text.npos) text.erase(text.find_last_not_of('0') + 1);
    if (text.ends_with('.')) text.pop_back();
    return text + scientific.substr(e);
  }
  text = format_real(value, 'f', std::max<int64_t>(precision - 1 - exponent, 1));
  text.erase(text.find_last_not_of('0') + 1);
  return text.ends_with('.') ? text + "0" : text;
}

std::string format_float(Heap& heap, const Spec& spec, double value) {
  const double magnitude = std::fabs(value);
  std::string body;
  if (!std::isfinite(value)) {
    body = std::isnan(value) ? "nan" : "inf";
    if (spec.type == 'F' || spec.type == 'E' || spec.type == 'G') body = to_upper(body);
    if (spec.type == '%') body += '%';
  } else if (spec.type == '\0') {
    body = spec.precision < 0 ? repr_of_real(magnitude) : format_general(magnitude, spec.precision);
  } else if (spec.type == '%') {
    body =
        format_real(magnitude * 100, 'f', spec.precision < 0 ? 6 : spec.precision, spec.is_alternate) + "%";
  } else {
    const char notation = spec.type == 'n' ? 'g' : spec.type;
    body = format_real(magnitude, notation, spec.precision < 0 ? 6 : spec.precision, spec.is_alternate);
  }
  return finish_number(heap, spec, std::signbit(value) && !std::isnan(value), "", std::move(body), 3);
}

std::string format_text(Heap& heap, const Spec& spec, const Value& value) {
  if (spec.type != '\0' && spec.type != 's') raise_type(spec, value);
  if (spec.align == '=' && spec.fill != "0") raise("'=' alignment not allowed in string format specifier");
  if (spec.sign != '-' || spec.grouping != '\0' || spec.is_alternate) {
    raise("sign, '#' and grouping are not allowed in string format specifier");
  }
  std::string_view text = text_of(value);
  if (spec.precision >= 0) text = text.substr(0, byte_of_char(text, static_cast<size_t>(spec.precision)));
  const char align = spec.align == '\0' || spec.align == '=' ? '<' : spec.align;
  return pad(heap, text, {spec.fill.empty() ? " " : spec.fill, align, spec.width});
}

}  // namespace

std::string format_real(double value, char notation, int64_t precision, bool is_alternate) {
  if (precision < 0 || precision > kMaxPrecision)
    raise("a format asks for more than {} digits", kMaxPrecision);
  std::string format = is_alternate ? "%#.*" : "%.*";
  format += notation;
  std::string text(static_cast<size_t>(precision) + 340, '\0');
  const int size =
      std::snprintf(text.data(), text.size(), format.c_str(), static_cast<int>(precision), value);
  text.resize(static_cast<size_t>(size));
  return text;
}

std::string pad(Heap& heap, std::string_view text, const Padding& padding) {
  const auto n_chars = static_cast<int64_t>(count_chars(text));
  const int64_t n_fill = std::max<int64_t>(padding.width - n_chars, 0);
  heap.expect_room(text.size() + static_cast<size_t>(n_fill) * padding.fill.size());
  heap.step_bytes(text.size() + static_cast<size_t>(n_fill));
  const int64_t n_left = padding.align == '<' ? 0 : padding.align == '^' ? n_fill / 2 : n_fill;
  std::string out;
  for (int64_t i = 0; i < n_left; ++i) out += padding.fill;
  out += text;
  for (int64_t i = n_left; i < n_fill; ++i) out += padding.fill;
  return out;
}

std::string format_value(Heap& heap, const Value& value, std::string_view text) {
  if (text.empty()) return to_str(heap, value);
  const Spec spec = SpecParser(text).parse();
  if (value.is_string()) return format_text(heap, spec, value);
  const bool is_real_type =
      spec.type != '\0' && std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos;
  if (value.is(Kind::real) || (value.is_integral() && is_real_type)) {
    if (spec.type != '\0' && spec.type != 'n' && !is_real_type) raise_type(spec, value);
    return format_float(heap, spec, value.real());
  }
  if (value.is_integral()) return format_integer(heap, spec, value);
  raise("unsupported format string passed to {}", type_name(value));
}

}  // namespace millrace::jinja
