// Numbers of JSON between bounds, as expressions of their digits.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "grammar/rules.h"

namespace millrace {

// A number as its digits are written.
struct Decimal {
  bool is_negative = false;
  std::string whole = "0";  // no zeros before it
  std::string fraction;     // no zeros behind it

  static Decimal of(const Json& number);
  bool is_zero() const { return whole == "0" && fraction.empty(); }
};

struct NumberBounds {
  struct Bound {
    Decimal value;
    bool is_exclusive = false;
  };
  std::optional<Bound> min, max;
  std::optional<Decimal> multiple_of;  // above 0
  bool is_integer = false;
};

// At most 18 digits before and 17 behind the point; with an exponent only where nothing is bounded.
Rules::Node json_number(Rules& rules, const NumberBounds& bounds);

}  // namespace millrace
