#include "grammar/json_numbers.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace millrace {
namespace {

using Node = Rules::Node;
using Bound = NumberBounds::Bound;

constexpr int64_t kMaxWhole = 18, kMaxFraction = 17;  // digits

// Expressions of numbers that are not negative.
class Magnitudes {
 public:
  explicit Magnitudes(Rules& rules) : rules_(rules) {}

  Node digits(int64_t min, int64_t max) {
    if (max < min) return rules_.nothing();
    return rules_.repeat(rules_.chars({'0', '9'}), min, max);
  }
  Node whole() {
    return rules_.choice(
        {rules_.bytes("0"), rules_.sequence({rules_.chars({'1', '9'}), digits(0, kMaxWhole - 1)})});
  }
  Node any_fraction() {
    return rules_.optional(rules_.sequence({rules_.bytes("."), digits(1, kMaxFraction)}));
  }
  Node any() { return rules_.sequence({whole(), any_fraction()}); }
  Node above_zero() { return at_least({.value = {}, .is_exclusive = true}); }

  Node at_least(const Bound& bound) {
    return rules_.choice({rules_.sequence({whole_compared(bound.value.whole, Order::above), any_fraction()}),
                          rules_.sequence({rules_.bytes(bound.value.whole),
                                           fraction_at_least(bound.value.fraction, bound.is_exclusive)})});
  }
  Node at_most(const Bound& bound) {
    return rules_.choice({rules_.sequence({whole_compared(bound.value.whole, Order::below), any_fraction()}),
                          rules_.sequence({rules_.bytes(bound.value.whole),
                                           fraction_at_most(bound.value.fraction, bound.is_exclusive)})});
  }
  // By the remainders of the digits read so far.
  Node multiples(const Decimal& of);

 private:
  enum class Order { below, above };

  Node digit_compared(char digit, Order order, char lowest) {
    const char first = order == Order::above ? static_cast<char>(digit + 1) : lowest;
    const char last = order == Order::above ? '9' : static_cast<char>(digit - 1);
    if (std::max(first, lowest) > last) return rules_.nothing();
    return rules_.chars({static_cast<uint32_t>(std::max(first, lowest)), static_cast<uint32_t>(last)});
  }

  Node whole_compared(const std::string& whole, Order order) {
    const auto n = static_cast<int64_t>(whole.size());
    std::vector<Node> ways;
    for (size_t i = 0; i < whole.size(); ++i) {
      const char lowest = i == 0 && n > 1 ? '1' : '0';
      const int64_t rest = n - static_cast<int64_t>(i) - 1;
      ways.push_back(rules_.sequence({rules_.bytes(std::string_view(whole).substr(0, i)),
                                      digit_compared(whole[i], order, lowest), digits(rest, rest)}));
    }
    const Node leading = rules_.chars({'1', '9'});
    if (order == Order::above) ways.push_back(rules_.sequence({leading, digits(n, kMaxWhole - 1)}));
    if (order == Order::below && n > 1) {
      ways.push_back(rules_.bytes("0"));
      if (n > 1) ways.push_back(rules_.sequence({leading, digits(0, n - 2)}));
    }
    return rules_.choice(std::move(ways));
  }

  // The point, the first digits of `fraction` and one that differs, whatever follows.
  void add_compared(const std::string& fraction, Order order, std::vector<Node>& ways) {
    for (size_t i = 0; i < fraction.size(); ++i)
      ways.push_back(rules_.sequence({rules_.bytes("." + fraction.substr(0, i)),
                                      digit_compared(fraction[i], order, '0'), digits(0, kMaxFraction)}));
  }

  Node fraction_at_least(const std::string& fraction, bool is_exclusive) {
    const Node zeros = digits_of_zero(0);
    const Node something = rules_.sequence({zeros, rules_.chars({'1', '9'}), digits(0, kMaxFraction)});
    const Node begin = rules_.bytes("." + fraction);
    if (fraction.empty()) return is_exclusive ? rules_.sequence({begin, something}) : any_fraction();
    std::vector<Node> ways;
    add_compared(fraction, Order::above, ways);
    ways.push_back(rules_.sequence({begin, is_exclusive ? something : digits(0, kMaxFraction)}));
    return rules_.choice(std::move(ways));
  }

  Node fraction_at_most(const std::string& fraction, bool is_exclusive) {
    std::vector<Node> ways;
    add_compared(fraction, Order::below, ways);
    if (!fraction.empty() || !is_exclusive) ways.push_back(rules_.empty());
    for (size_t i = 1; i < fraction.size(); ++i) ways.push_back(rules_.bytes("." + fraction.substr(0, i)));
    if (!is_exclusive)
      ways.push_back(
          rules_.sequence({rules_.bytes("." + fraction), digits_of_zero(fraction.empty() ? 1 : 0)}));
    return rules_.choice(std::move(ways));
  }

  Node digits_of_zero(int64_t min) { return rules_.repeat(rules_.bytes("0"), min, kMaxFraction); }

  Rules& rules_;
};

Node Magnitudes::multiples(const Decimal& of) {
  constexpr uint64_t kMaxStates = 50'000;
  const size_t n_fraction = of.fraction.size();
  const std::string all = of.whole + of.fraction;
  const uint64_t k = all.size() <= 9 ? std::stoull(all) : kMaxStates;
  if (k * (n_fraction + 1) >= kMaxStates)
    fail(ErrorKind::usage, "multipleOf {}{}{} cannot be enforced: it has too many digits", of.whole,
         of.fraction.empty() ? "" : ".", of.fraction);
  // State 1 + phase * k + r: `phase` digits behind the point, and what was read, as an integer, is r modulo
  // k.
  Automaton out;
  out.start = out.add_state();
  for (size_t i = 0; i < k * (n_fraction + 1); ++i) out.add_state();
  const auto state_of = [&](size_t phase, uint64_t r) {
    return static_cast<uint32_t>(1 + phase * k + r % k);
  };
  const uint32_t zeros = out.add_state();
  out.states[zeros].is_accepting = true;
  out.add_edge(zeros, '0', '0', zeros);
  const auto add_digits = [&](uint32_t from, size_t phase, uint64_t r) {
    for (uint64_t digit = 0; digit < 10; ++digit) {
      const auto byte = static_cast<uint8_t>('0' + digit);
      out.add_edge(from, byte, byte, state_of(phase, r * 10 + digit));
    }
  };
  add_digits(out.start, 0, 0);
  uint64_t scale = 1;  // 10^(n_fraction - phase)
  for (size_t phase = n_fraction + 1; phase-- > 0; scale = scale * 10 % k) {
    for (uint64_t r = 0; r < k; ++r) {
      const uint32_t state = state_of(phase, r);
      out.states[state].is_accepting = r * (scale % k) % k == 0;
      if (phase == 0) {
        add_digits(state, 0, r);
        const uint32_t behind_point = out.add_state();
        out.add_edge(state, '.', '.', behind_point);
        if (n_fraction > 0) add_digits(behind_point, 1, r);
        if (n_fraction == 0 && r == 0) out.add_edge(behind_point, '0', '0', zeros);
      } else if (phase < n_fraction) {
        add_digits(state, phase + 1, r);
      } else if (r == 0) {
        out.add_edge(state, '0', '0', zeros);
      }
    }
  }
  return rules_.automaton(std::move(out));
}

Bound negated(Bound bound) {
  bound.value.is_negative = !bound.value.is_negative;
  return bound;
}

// Magnitudes between bounds that are not negative.
Node between(Rules& rules, const std::optional<Bound>& min, const std::optional<Bound>& max,
             const NumberBounds& bounds) {
  Magnitudes magnitudes(rules);
  Node out = bounds.is_integer ? magnitudes.whole() : magnitudes.any();
  if (min) out = rules.both(out, magnitudes.at_least(*min));
  if (max) out = rules.both(out, magnitudes.at_most(*max));
  if (bounds.multiple_of) out = rules.both(out, magnitudes.multiples(*bounds.multiple_of));
  return out;
}

Node unbounded(Rules& rules, bool is_integer) {
  Magnitudes magnitudes(rules);
  std::vector<Node> parts{rules.optional(rules.bytes("-"))};
  parts.push_back(is_integer ? magnitudes.whole() : magnitudes.any());
  if (!is_integer) {
    CharClass e('e', 'e'), sign('+', '+');
    e.add('E', 'E');
    sign.add('-', '-');
    // Two digits: a double holds it.
    parts.push_back(rules.optional(
        rules.sequence({rules.chars(e), rules.optional(rules.chars(sign)), magnitudes.digits(1, 2)})));
  }
  return rules.sequence(std::move(parts));
}

}  // namespace

Decimal Decimal::of(const Json& number) {
  std::string text =
      number.is_int() ? std::to_string(number.as_int()) : fmt::format("{}", number.as_double());
  Decimal out;
  if (text.starts_with('-')) {
    out.is_negative = true;
    text.erase(0, 1);
  }
  int exponent = 0;
  if (const size_t at = text.find('e'); at != std::string::npos) {
    exponent = std::stoi(text.substr(at + 1));
    text.resize(at);
  }
  const size_t point = text.find('.');
  out.whole = text.substr(0, point);
  if (point != std::string::npos) out.fraction = text.substr(point + 1);
  for (; exponent > 0; --exponent) {
    out.whole += out.fraction.empty() ? '0' : out.fraction[0];
    if (!out.fraction.empty()) out.fraction.erase(0, 1);
  }
  for (; exponent < 0; ++exponent) {
    out.fraction.insert(0, 1, out.whole.empty() ? '0' : out.whole.back());
    if (!out.whole.empty()) out.whole.pop_back();
  }
  out.whole.erase(0, std::min(out.whole.find_first_not_of('0'), out.whole.size()));
  if (out.whole.empty()) out.whole = "0";
  out.fraction.resize(out.fraction.find_last_not_of('0') + 1);
  if (out.is_zero()) out.is_negative = false;
  return out;
}

Rules::Node json_number(Rules& rules, const NumberBounds& bounds) {
  if (!bounds.min && !bounds.max && !bounds.multiple_of) return unbounded(rules, bounds.is_integer);
  const auto& [min, max, multiple_of, is_integer] = bounds;
  std::vector<Node> ways;
  if (!max || !max->value.is_negative) {
    const bool is_from_zero = !min || min->value.is_negative;
    ways.push_back(between(rules, is_from_zero ? std::nullopt : min, max, bounds));
  }
  if (!min || min->value.is_negative) {
    const Bound above_zero{.value = {}, .is_exclusive = true};
    const bool is_to_zero = !max || !max->value.is_negative;
    const std::optional<Bound> least = is_to_zero ? above_zero : negated(*max);
    const std::optional<Bound> most = min ? std::optional(negated(*min)) : std::nullopt;
    ways.push_back(rules.sequence({rules.bytes("-"), between(rules, least, most, bounds)}));
  }
  return rules.choice(std::move(ways));
}

}  // namespace millrace
