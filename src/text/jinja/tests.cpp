// Tests (`x is y`) and the functions that every template finds.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <ctime>

#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace millrace::jinja {
namespace {

using A = Arguments;

template <int kSign, bool kOrEqual>
bool is_ordered(Context&, const Value& v, const A& a) {
  const Value& other = a.need(0, "other");
  return (kSign < 0 ? is_less(v, other) : is_less(other, v)) || (kOrEqual && is_equal(v, other));
}
bool equals(Context&, const Value& v, const A& a) { return is_equal(v, a.need(0, "other")); }
bool differs(Context&, const Value& v, const A& a) { return !is_equal(v, a.need(0, "other")); }

int64_t remainder(const Value& v, int64_t by) {
  if (by == 0) throw RenderError("division by zero");
  return v.integer() % by;
}

constexpr std::pair<std::string_view, Test> kTests[] = {
    {"defined", [](Context&, const Value& v, const A&) { return !v.is_undefined(); }},
    {"undefined", [](Context&, const Value& v, const A&) { return v.is_undefined(); }},
    {"none", [](Context&, const Value& v, const A&) { return v.is_none(); }},
    {"boolean", [](Context&, const Value& v, const A&) { return v.is_bool(); }},
    {"true", [](Context&, const Value& v, const A&) { return v.is_bool() && v.is_true(); }},
    {"false", [](Context&, const Value& v, const A&) { return v.is_bool() && !v.is_true(); }},
    {"integer", [](Context&, const Value& v, const A&) { return v.is_int(); }},
    {"float", [](Context&, const Value& v, const A&) { return v.is_real(); }},
    {"number", [](Context&, const Value& v, const A&) { return v.is_number(); }},
    {"string", [](Context&, const Value& v, const A&) { return v.is_string(); }},
    {"mapping", [](Context&, const Value& v, const A&) { return v.is_dict() && !v.dict().is_namespace; }},
    {"sequence",
     [](Context&, const Value& v, const A&) {
       return v.is_string() || (v.is_list() && !v.is_generator()) || (v.is_dict() && !v.dict().is_namespace);
     }},
    {"iterable",
     [](Context&, const Value& v, const A&) {
       return v.is_string() || v.is_list() || v.is_undefined() || (v.is_dict() && !v.dict().is_namespace);
     }},
    {"callable", [](Context&, const Value& v, const A&) { return v.is_function(); }},
    {"sameas",
     [](Context&, const Value& v, const A& a) {
       const Value& other = a.need(0, "other");
       return v.type_name() == other.type_name() &&
              (v.identity() != nullptr ? v.identity() == other.identity() : is_equal(v, other));
     }},
    {"lower", [](Context&, const Value& v, const A&) { return is_lower_text(v.str()); }},
    {"upper", [](Context&, const Value& v, const A&) { return is_upper_text(v.str()); }},
    {"odd", [](Context&, const Value& v, const A&) { return remainder(v, 2) != 0; }},
    {"even", [](Context&, const Value& v, const A&) { return remainder(v, 2) == 0; }},
    {"divisibleby",
     [](Context&, const Value& v, const A& a) { return remainder(v, a.need(0, "num").integer()) == 0; }},
    {"in", [](Context&, const Value& v, const A& a) { return contains(a.need(0, "seq"), v); }},
    {"filter", [](Context&, const Value& v, const A&) { return find_filter(v.text()) != nullptr; }},
    {"test", [](Context&, const Value& v, const A&) { return find_test(v.text()) != nullptr; }},
    {"escaped", [](Context&, const Value& v, const A&) { return v.is_markup(); }},
    {"eq", equals},
    {"==", equals},
    {"equalto", equals},
    {"ne", differs},
    {"!=", differs},
    {"lt", is_ordered<-1, false>},
    {"<", is_ordered<-1, false>},
    {"lessthan", is_ordered<-1, false>},
    {"le", is_ordered<-1, true>},
    {"<=", is_ordered<-1, true>},
    {"gt", is_ordered<1, false>},
    {">", is_ordered<1, false>},
    {"greaterthan", is_ordered<1, false>},
    {"ge", is_ordered<1, true>},
    {">=", is_ordered<1, true>},
};

Value range(Context& context, const A& a) {
  int64_t begin = 0, end = a.need(0, "stop").integer(), step = 1;
  if (a.positional.size() > 1) {
    begin = end;
    end = a.positional[1].integer();
  }
  if (a.positional.size() > 2) step = a.positional[2].integer();
  if (step == 0) throw RenderError("range() arg 3 must not be zero");
  constexpr int64_t kMaxRange = 100000;  // as Jinja's sandbox
  const double n = (static_cast<double>(end) - static_cast<double>(begin)) / static_cast<double>(step);
  if (n > kMaxRange)
    throw RenderError(fmt::format("Range too big. The sandbox blocks ranges larger than {}", kMaxRange));
  Values out;
  for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) out.emplace_back(i);
  context.step(static_cast<int64_t>(out.size()));
  return Value::list(std::move(out));
}

Value dict_of(Context& context, const A& a, bool is_namespace) {
  auto dict = std::make_shared<Dict>();
  context.step();
  if (is_namespace) context.own(dict);
  for (const Value& source : a.positional) {
    if (source.is_dict()) {
      for (const auto& [key, value] : source.dict().entries) dict->set(key, value);
    } else {
      for (const Value& pair : iterate(source)) {
        if (pair.items().size() != 2) throw RenderError("dict() takes pairs");
        dict->set(pair.items()[0], pair.items()[1]);
      }
    }
  }
  for (const auto& [key, value] : a.named) dict->set(Value(key), value);
  dict->is_namespace = is_namespace;
  return dict;
}

// The local time that strftime_now sees.
std::tm time_of(std::string_view now) {
  std::tm time{};
  if (now.empty()) {
    const std::time_t clock = std::time(nullptr);
    ::localtime_r(&clock, &time);
    return time;
  }
  const std::string text(now.substr(0, 19));
  const char* format =
      text.size() > 10 ? (text[10] == 'T' ? "%Y-%m-%dT%H:%M:%S" : "%Y-%m-%d %H:%M:%S") : "%Y-%m-%d";
  const char* end = ::strptime(text.c_str(), format, &time);
  if (end == nullptr) throw RenderError("the time is no ISO 8601 date and time");
  time.tm_isdst = -1;
  std::tm copy = time;
  std::mktime(&copy);  // the day of the week and of the year
  time.tm_wday = copy.tm_wday;
  time.tm_yday = copy.tm_yday;
  return time;
}

Value strftime_now(Context& context, const A& a) {
  const std::string& format = a.need(0, "format").text();
  if (format.empty()) return "";
  if (format.size() > 200) throw RenderError("the format of strftime_now is too long");
  const std::tm time = time_of(context.now());
  char buffer[4096];
  return std::string(buffer, std::strftime(buffer, sizeof buffer, format.c_str(), &time));
}

Value cycler(const A& a) {
  if (a.positional.empty()) throw RenderError("at least one item has to be provided");
  auto cycle = std::make_shared<Dict>();
  const auto at = std::make_shared<size_t>(0);
  const auto items = std::make_shared<Values>(a.positional);
  cycle->entries.emplace_back(
      "next", std::make_shared<Function>(
                  Function{"next", [at, items](const A&) { return (*items)[(*at)++ % items->size()]; }}));
  cycle->entries.emplace_back("reset", std::make_shared<Function>(Function{"reset", [at](const A&) -> Value {
                                                                             *at = 0;
                                                                             return {};
                                                                           }}));
  cycle->is_namespace = true;
  return cycle;
}

Value joiner(const A& a) {
  const auto is_used = std::make_shared<bool>(false);
  return std::make_shared<Function>(
      Function{"joiner", [is_used, separator = a.get(0, "sep", Value(", "))](const A&) {
                 return std::exchange(*is_used, true) ? separator : Value("");
               }});
}

}  // namespace

Test find_test(std::string_view name) {
  const auto* at = std::ranges::find(kTests, name, &std::pair<std::string_view, Test>::first);
  return at == std::end(kTests) ? nullptr : at->second;
}

void define_functions(Context& context) {
  const auto define = [&](const char* name, std::function<Value(const A&)> call) {
    context.set(name, Value(std::make_shared<Function>(Function{name, std::move(call)})));
  };
  define("range", [&context](const A& a) { return range(context, a); });
  define("namespace", [&context](const A& a) { return dict_of(context, a, true); });
  define("dict", [&context](const A& a) { return dict_of(context, a, false); });
  define("strftime_now", [&context](const A& a) { return strftime_now(context, a); });
  define("cycler", cycler);
  define("joiner", joiner);
  define("raise_exception", [](const A& a) -> Value { throw RenderError(a.need(0, "message").str()); });
}

}  // namespace millrace::jinja
