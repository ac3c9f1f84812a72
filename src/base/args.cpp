#include "base/args.h"

#include <CLI/CLI.hpp>
#include <charconv>

#include "base/error.h"
#include "base/nearest.h"

namespace millrace {

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
  parser_->app.add_option(names, value, help)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

void Args::positional(const std::string& name, const std::string& help, std::string& value,
                      Presence presence) {
  entries_.push_back({.names = {name}, .help = help, .takes_value = true, .is_positional = true});
  parser_->app.add_option(name, value, help)->required(presence == Presence::needed);
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
