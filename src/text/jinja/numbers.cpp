#include "text/jinja/numbers.h"

#include <charconv>
#include <cmath>

#include "text/jinja/format.h"
#include "text/jinja/py_string.h"

namespace millrace::jinja {
namespace {

// Removes single underscores between digits. Nothing where one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  const auto is_alnum_at = [&](size_t i) {
    return i < text.size() && text[i] != '_' && is_alnum(static_cast<unsigned char>(text[i]));
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || !is_alnum_at(i - 1) || !is_alnum_at(i + 1)) {
      return std::nullopt;
    }
  }
  return out;
}

// The base that a prefix such as 0x names, or 0.
int64_t base_of_prefix(std::string_view digits) {
  if (digits.size() < 2 || digits[0] != '0') return 0;
  const char letter = static_cast<char>(digits[1] | 0x20);
  return letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
}

}  // namespace

std::optional<int64_t> parse_int(std::string_view text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) raise("int() base must be >= 2 and <= 36, or 0");
  text = strip(text, nullptr, {});
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  const int64_t prefix_base = base_of_prefix(text);
  const bool has_prefix = prefix_base != 0 && (base == 0 || base == prefix_base);
  if (has_prefix) {
    text.remove_prefix(2);
    if (text.starts_with('_')) text.remove_prefix(1);
    base = prefix_base;
  }
  std::optional<std::string> digits = without_underscores(text);
  if (!digits || digits->empty() || (*digits)[0] == '-') return std::nullopt;
  if (base == 0) {
    if ((*digits)[0] == '0' && digits->find_first_not_of('0') != digits->npos) return std::nullopt;
    base = 10;
  }
  if (is_negative) digits->insert(0, 1, '-');
  int64_t value = 0;
  const char* last = digits->data() + digits->size();
  const auto [end, error] = std::from_chars(digits->data(), last, value, static_cast<int>(base));
  if (end != last || error == std::errc::invalid_argument) return std::nullopt;
  if (error != std::errc()) raise("an integer leaves the 64 bits that this engine computes with");
  return value;
}

std::optional<double> parse_real(std::string_view text) {
  text = strip(text, nullptr, {});
  const bool is_negative = text.starts_with('-');
  if (is_negative || text.starts_with('+')) text.remove_prefix(1);
  const std::optional<std::string> digits = without_underscores(text);
  if (!digits || digits->empty() || (*digits)[0] == '-') return std::nullopt;
  // "nan(...)", which from_chars takes, is none.
  const char first = static_cast<char>((*digits)[0] | 0x20);
  if (first == 'n' && digits->size() != 3) return std::nullopt;
  double value = 0;
  const char* last = digits->data() + digits->size();
  const auto [end, error] = std::from_chars(digits->data(), last, value);
  if (end != last || error == std::errc::invalid_argument) return std::nullopt;
  if (error == std::errc::result_out_of_range) value = std::strtod(digits->c_str(), nullptr);
  return is_negative ? -value : value;
}

std::optional<int64_t> truncate_real(double value) {
  if (std::isnan(value)) return std::nullopt;
  if (!(value >= -0x1p63 && value < 0x1p63)) raise("cannot convert {} to an integer of 64 bits", value);
  return static_cast<int64_t>(value);
}

Value round_value(const Value& value, int64_t n_digits) {
  if (value.is_undefined()) raise_undefined(value);
  if (!value.is_number()) raise("type {} doesn't define __round__ method", type_name(value));
  if (value.is_integral()) {
    if (n_digits >= 0) return Value(value.integer());
    if (n_digits < -18) return Value(int64_t{0});
    int64_t unit = 1;
    for (int64_t i = n_digits; i < 0; ++i) unit *= 10;
    const int64_t rest = value.integer() % unit;
    const int64_t down = value.integer() - rest;
    const int64_t twice = 2 * std::abs(rest);
    const bool is_odd = (down / unit) % 2 != 0;
    if (twice < unit || (twice == unit && !is_odd)) return Value(down);
    int64_t result = 0;
    if (__builtin_add_overflow(down, rest < 0 ? -unit : unit, &result)) {
      raise("an integer leaves the 64 bits that this engine computes with");
    }
    return Value(result);
  }
  const double real = value.real();
  if (!std::isfinite(real) || n_digits > 323) return value;
  if (n_digits < -308) return Value(std::copysign(0.0, real));
  // The decimal nearest to the exact value of the double, as CPython does it.
  if (n_digits >= 0) return Value(std::strtod(format_real(real, 'f', n_digits).c_str(), nullptr));
  const double unit = std::pow(10.0, static_cast<double>(-n_digits));
  return Value(std::nearbyint(real / unit) * unit);
}

}  // namespace millrace::jinja
