#include "base/args.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <system_error>
#include <type_traits>

#include "base/error.h"
#include "base/nearest.h"

namespace millrace {
namespace {

// What stands in help and in sentences for the value of an option.
template <class T>
constexpr const char* kTypeName = std::is_integral_v<T> ? "INT" : "FLOAT";
template <>
constexpr const char* kTypeName<std::string> = "TEXT";
template <class T>
constexpr const char* kTypeName<std::optional<T>> = kTypeName<T>;

template <class T>
constexpr const char* kExpected = !std::is_integral_v<T>  ? "a number"
                                  : std::is_unsigned_v<T> ? "an integer from 0 on"
                                                          : "an integer";
template <class T>
constexpr const char* kExpected<std::optional<T>> = kExpected<T>;

// The text as the value; false where it is none, or one that the type cannot hold. CLI11's own conversion
// takes
// "-1" for 2^64 - 1 and "" for 0.
bool assign(const std::string& text, std::string& value) {
  value = text;
  return true;
}

template <class T>
bool assign(const std::string& text, T& value) {
  T parsed{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  if (error != std::errc() || end != text.data() + text.size()) return false;
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(parsed)) return false;
  }
  value = parsed;
  return true;
}

template <class T>
bool assign(const std::string& text, std::optional<T>& value) {
  return assign(text, value.emplace());
}

}  // namespace

struct Args::Parser {
  CLI::App app;
};

Args::Args(const std::string& verb, const std::string& summary)
    : verb_(verb), parser_(std::make_unique<Parser>()) {
  parser_->app.name("millrace " + verb);
  parser_->app.description(summary);
  parser_->app.get_formatter()->column_width(34);
  note("-h,--help", "Print this help and exit", false);
}

Args::~Args() = default;

void Args::note(const std::string& names, const std::string& help, bool takes_value) {
  entries_.push_back({.names = CLI::detail::split(names, ','),
                      .help = help,
                      .takes_value = takes_value,
                      .is_positional = false});
}

template <class T>
void Args::add_option(const std::string& names, const std::string& help, T& value) {
  note(names, help, true);
  const std::string name = entries_.back().names.back();
  const auto fill = [this, name, &value](const std::vector<std::string>& given) {
    if (!assign(given.back(), value)) {
      fail(ErrorKind::usage, "{}: {} should be {}, found \"{}\"", verb_, name, kExpected<T>,
           printable(given.back()));
    }
    return true;
  };
  parser_->app.add_option(names, fill, help)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
      ->type_name(kTypeName<T>);
}

void Args::positional(const std::string& name, const std::string& help, std::string& value,
                      Presence presence) {
  entries_.push_back({.names = {name}, .help = help, .takes_value = true, .is_positional = true});
  parser_->app.add_option(name, value, help)->required(presence == Presence::needed);
}

void Args::positional(const std::string& name, const std::string& help, std::vector<std::string>& values) {
  entries_.push_back({.names = {name}, .help = help, .takes_value = true, .is_positional = true});
  parser_->app.add_option(name, values, help);
}

void Args::flag(const std::string& names, const std::string& help, bool& value) {
  note(names, help, false);
  parser_->app.add_flag(names, value, help);
}

using Text = std::string;
void Args::option(const Text& names, const Text& help, std::string& value) { add_option(names, help, value); }
void Args::option(const Text& names, const Text& help, int64_t& value) { add_option(names, help, value); }
void Args::option(const Text& names, const Text& help, int& value) { add_option(names, help, value); }
void Args::option(const Text& names, const Text& help, float& value) { add_option(names, help, value); }
void Args::option(const Text& names, const Text& help, std::optional<std::string>& value) {
  add_option(names, help, value);
}
void Args::option(const Text& names, const Text& help, std::optional<uint64_t>& value) {
  add_option(names, help, value);
}
void Args::option(const Text& names, const Text& help, std::optional<float>& value) {
  add_option(names, help, value);
}
void Args::option(const Text& names, const Text& help, std::optional<int32_t>& value) {
  add_option(names, help, value);
}

void Args::option(const Text& names, const Text& help, std::vector<std::string>& value) {
  note(names, help, true);
  parser_->app.add_option(names, value, help)->allow_extra_args(false);
}

void Args::refuse_extra(const std::string& argument) const {
  const std::string shown = printable(argument);
  if (!argument.starts_with("-")) fail(ErrorKind::usage, "{}: one argument too many: {}", verb_, shown);
  std::vector<std::string_view> known;
  for (const Entry& entry : entries_) {
    if (!entry.is_positional) known.insert(known.end(), entry.names.begin(), entry.names.end());
  }
  fail(ErrorKind::usage, "{}: unknown option {}; did you mean {}?", verb_, shown,
       nearest_name(argument, known));
}

bool Args::parse(int argc, const char* const* argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    parser_->app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", parser_->app.help());
    return false;
  } catch (const CLI::ExtrasError&) {
    refuse_extra(parser_->app.remaining().front());
  } catch (const CLI::ParseError& error) {
    fail(ErrorKind::usage, "{}: {}", verb_, printable(error.what(), 300));
  }
  return true;
}

std::vector<int32_t> parse_ids(const std::string& text, const std::string& what) {
  std::vector<int32_t> ids;
  for (const char* at = text.data(); at != text.data() + text.size();) {
    const char* end = text.data() + text.size();
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    const bool is_separated = next == end || ((*next == ',' || *next == ' ') && next + 1 != end);
    if (error != std::errc() || id < 0 || !is_separated) {
      fail(ErrorKind::usage, "{} should be token ids such as 1,2,3, found {}", what, printable(text));
    }
    ids.push_back(id);
    at = next == end ? end : next + 1;
  }
  return ids;
}

}  // namespace millrace
