#include <cmath>

#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/numbers.h"

namespace millrace::jinja {
namespace {

Value filter_int(Interpreter&, Call& call) {
  const auto [fallback, base] = call.bind("int", {"default", "base"});
  const Value& value = call.self;
  if (value.is_undefined()) raise_undefined(value);
  std::optional<int64_t> integer;
  if (value.is_integral()) integer = value.integer();
  if (value.is(Kind::real)) integer = truncate_real(value.real());
  if (value.is_string()) {
    integer = parse_int(text_of(value), int_argument(base, 10));
    const std::optional<double> real = integer ? std::nullopt : parse_real(text_of(value));
    if (real) integer = truncate_real(*real);
  }
  if (integer) return Value(*integer);
  return fallback.is_missing() ? Value(int64_t{0}) : fallback;
}

Value filter_float(Interpreter&, Call& call) {
  const auto [fallback] = call.bind("float", {"default"});
  const Value& value = call.self;
  if (value.is_undefined()) raise_undefined(value);
  if (value.is_number()) return Value(value.real());
  if (value.is_string()) {
    if (const std::optional<double> real = parse_real(text_of(value))) return Value(*real);
  }
  return fallback.is_missing() ? Value(0.0) : fallback;
}

Value filter_abs(Interpreter&, Call& call) {
  call.expect_none("abs");
  if (call.self.is_undefined()) raise_undefined(call.self);
  if (call.self.is(Kind::real)) return Value(std::fabs(call.self.real()));
  if (!call.self.is_integral()) raise("bad operand type for abs(): '{}'", type_name(call.self));
  if (call.self.integer() == INT64_MIN) raise("an integer leaves the 64 bits that this engine computes with");
  return Value(std::abs(call.self.integer()));
}

Value filter_round(Interpreter&, Call& call) {
  const auto [precision, method] = call.bind("round", {"precision", "method"});
  const std::string how = method.is_missing() ? "common" : string_argument(method);
  const int64_t n_digits = int_argument(precision, 0);
  if (how == "common") return round_value(call.self, n_digits);
  if (how != "ceil" && how != "floor") raise("method must be common, ceil or floor");
  if (call.self.is_undefined()) raise_undefined(call.self);
  if (!call.self.is_number()) raise("must be real number, not {}", type_name(call.self));
  const double unit = std::pow(10.0, static_cast<double>(n_digits));
  const double scaled = call.self.real() * unit;
  if (!std::isfinite(scaled)) raise("cannot convert {} to integer", scaled);
  return Value((how == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit);
}

Value filter_filesizeformat(Interpreter& in, Call& call) {
  const auto [binary] = call.bind("filesizeformat", {"binary"});
  const Value& value = call.self;
  std::optional<double> number;
  if (value.is_number()) number = value.real();
  if (value.is_string()) number = parse_real(text_of(value));
  if (!number || !std::isfinite(*number)) raise("a file size must be a number, not '{}'", type_name(value));
  const double n_bytes = *number;
  const bool is_binary = is_true(in.heap(), binary);
  const double base = is_binary ? 1024 : 1000;
  if (n_bytes == 1) return make_string(in.heap(), "1 Byte");
  if (n_bytes < base) return make_string(in.heap(), format_real(std::trunc(n_bytes), 'f', 0) + " Bytes");
  constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base;
  size_t i = 0;
  while (i + 1 < kPrefixes.size() && n_bytes >= unit * base) {
    unit *= base;
    ++i;
  }
  const char prefix = is_binary && i == 0 ? 'K' : kPrefixes[i];
  return make_string(in.heap(),
                     format_real(n_bytes / unit, 'f', 1) + " " + prefix + (is_binary ? "iB" : "B"));
}

}  // namespace

std::span<const NamedBuiltin> number_filters() {
  static constexpr NamedBuiltin kFilters[] = {
      {"int", filter_int},
      {"float", filter_float},
      {"abs", filter_abs},
      {"round", filter_round},
      {"filesizeformat", filter_filesizeformat},
  };
  return kFilters;
}

}  // namespace millrace::jinja
