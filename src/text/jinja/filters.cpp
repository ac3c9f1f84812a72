#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <random>

#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace millrace::jinja {
namespace {

using A = Arguments;

// "a.b.0": attribute by attribute.
Value by_path(Context& context, Value value, std::string_view path) {
  while (!path.empty()) {
    const size_t dot = path.find('.');
    const std::string part(path.substr(0, dot));
    const bool is_index =
        !part.empty() && part.find_first_not_of("0123456789") == part.npos && part.size() < 10;
    value = is_index ? item_of(context, value, Value(static_cast<int64_t>(std::stoll(part))))
                     : item_of(context, value, Value(part));
    path = dot == path.npos ? std::string_view() : path.substr(dot + 1);
  }
  return value;
}

Value attribute_argument(Context& context, const Value& item, const Value& attribute) {
  return attribute.is_none()       ? item
         : attribute.is_integral() ? item_of(context, item, attribute)
                                   : by_path(context, item, attribute.text());
}

Values charged_items(Context& context, const Value& input) {
  Values items = iterate(input);
  context.step(static_cast<int64_t>(items.size()));
  return items;
}

// The key of sort, unique, min and max: texts without case unless it matters.
Value sort_key(Context& context, const Value& item, const Value& attribute, bool is_case_sensitive) {
  Value key = attribute_argument(context, item, attribute);
  return key.is_string() && !is_case_sensitive ? Value(lower(key.text())) : key;
}

Value sort(Context& context, const Value& input, const A& a) {
  Values items = charged_items(context, input);
  const bool is_reverse = a.get(0, "reverse", Value(false)).is_true(),
             has_case = a.get(1, "case_sensitive", Value(false)).is_true();
  const Value attribute = a.get(2, "attribute", Value());
  std::ranges::stable_sort(items, [&](const Value& x, const Value& y) {
    context.step();
    const Value kx = sort_key(context, x, attribute, has_case),
                ky = sort_key(context, y, attribute, has_case);
    return is_reverse ? is_less(ky, kx) : is_less(kx, ky);
  });
  return Value::list(std::move(items));
}

Value dictsort(Context& context, const Value& input, const A& a) {
  auto entries = input.dict().entries;
  const bool has_case = a.get(0, "case_sensitive", Value(false)).is_true(),
             by_value = a.get(1, "by", Value("key")).text() == "value";
  const bool is_reverse = a.get(2, "reverse", Value(false)).is_true();
  std::ranges::stable_sort(entries, [&](const auto& x, const auto& y) {
    context.step();
    const Value kx = sort_key(context, by_value ? x.second : x.first, Value(), has_case);
    const Value ky = sort_key(context, by_value ? y.second : y.first, Value(), has_case);
    return is_reverse ? is_less(ky, kx) : is_less(kx, ky);
  });
  Values out;
  for (const auto& [key, value] : entries) out.push_back(Value::list({key, value}, true));
  return Value::list(std::move(out));
}

template <bool kIsMax>
Value extreme(Context& context, const Value& input, const A& a) {
  const Values items = charged_items(context, input);
  const bool has_case = a.get(0, "case_sensitive", Value(false)).is_true();
  const Value attribute = a.get(1, "attribute", Value());
  if (items.empty()) return Undefined{"No aggregated item, sequence was empty."};
  const Value* best = &items[0];
  for (const Value& item : items) {
    const Value key = sort_key(context, item, attribute, has_case),
                other = sort_key(context, *best, attribute, has_case);
    if (kIsMax ? is_less(other, key) : is_less(key, other)) best = &item;
  }
  return *best;
}

Value unique(Context& context, const Value& input, const A& a) {
  Values keys, out;
  for (Value& item : charged_items(context, input)) {
    Value key = sort_key(context, item, a.get(1, "attribute", Value()),
                         a.get(0, "case_sensitive", Value(false)).is_true());
    context.step(static_cast<int64_t>(keys.size()));
    if (std::ranges::any_of(keys, [&](const Value& known) { return is_equal(known, key); })) continue;
    keys.push_back(std::move(key));
    out.push_back(std::move(item));
  }
  return Value::generator(std::move(out));
}

Value groupby(Context& context, const Value& input, const A& a) {
  const Value attribute = a.need(0, "attribute");
  const Value sorted = sort(context, input, {.named = {{"attribute", attribute}}});
  Values groups;
  Values group;
  Value key;
  const auto close = [&] {
    if (group.empty()) return;
    auto pair = std::make_shared<Dict>();
    pair->entries = {{Value("grouper"), key}, {Value("list"), Value::list(std::move(group))}};
    groups.emplace_back(Value::list({key, pair->entries[1].second}, true));
    group.clear();
  };
  for (const Value& item : sorted.items()) {
    Value item_key = attribute_argument(context, item, attribute);
    if (group.empty() || !is_equal(item_key, key)) {
      close();
      key = item_key;
    }
    group.push_back(item);
  }
  close();
  return Value::list(std::move(groups));
}

// The input of the lazy filters: nothing at all counts as empty.
Values lazy_items(Context& context, const Value& input) {
  return input.is_true() ? charged_items(context, input) : Values();
}

Value map(Context& context, const Value& input, const A& a) {
  Values out;
  const Value* attribute = a.find(SIZE_MAX, "attribute");
  for (Value& item : lazy_items(context, input)) {
    if (attribute != nullptr) {
      Value found = attribute_argument(context, item, *attribute);
      const Value* otherwise = a.find(SIZE_MAX, "default");
      out.push_back(found.is_undefined() && otherwise != nullptr ? *otherwise : std::move(found));
      continue;
    }
    const std::string& name = a.need(0, "filter").text();
    const Filter filter = find_filter(name);
    if (filter == nullptr) throw RenderError(fmt::format("No filter named '{}'.", name));
    out.push_back(
        filter(context, item,
               {.positional = Values(a.positional.begin() + 1, a.positional.end()), .named = a.named}));
  }
  return Value::generator(std::move(out));
}

// select, reject, selectattr, rejectattr: items for which a test holds (or does not).
template <bool kKeeps, bool kByAttribute>
Value choose(Context& context, const Value& input, const A& a) {
  const size_t first = kByAttribute ? 1 : 0;
  Test test = nullptr;
  if (a.positional.size() > first) {
    test = find_test(a.positional[first].text());
    if (test == nullptr) throw RenderError(fmt::format("No test named '{}'.", a.positional[first].text()));
  }
  const A rest{.positional =
                   a.positional.size() > first + 1
                       ? Values(a.positional.begin() + static_cast<ptrdiff_t>(first) + 1, a.positional.end())
                       : Values()};
  Values out;
  for (Value& item : lazy_items(context, input)) {
    const Value tested = kByAttribute ? attribute_argument(context, item, a.need(0, "attribute")) : item;
    if ((test != nullptr ? test(context, tested, rest) : tested.is_true()) == kKeeps)
      out.push_back(std::move(item));
  }
  return Value::generator(std::move(out));
}

Value join(Context& context, const Value& input, const A& a) {
  const std::string separator = a.get(0, "d", Value("")).str();
  const Value attribute = a.get(1, "attribute", Value());
  std::string out;
  bool is_first = true;
  for (const Value& item : charged_items(context, input)) {
    const std::string text = attribute_argument(context, item, attribute).str();
    context.expect_room(out.size() + separator.size() + text.size());
    out += (is_first ? "" : separator) + text;
    is_first = false;
  }
  return out;
}

Value batch(Context& context, const Value& input, const A& a) {
  const int64_t size = a.need(0, "linecount").integer();
  if (size < 1) throw RenderError("batch needs a positive size");
  Values out, line;
  for (Value& item : charged_items(context, input)) {
    line.push_back(std::move(item));
    if (static_cast<int64_t>(line.size()) == size) out.push_back(Value::list(std::exchange(line, {})));
  }
  if (!line.empty()) {
    if (const Value* fill = a.find(1, "fill_with"); fill != nullptr && !fill->is_none()) {
      context.step(size);
      line.resize(static_cast<size_t>(std::min<int64_t>(size, 1 << 20)), *fill);
    }
    out.push_back(Value::list(std::move(line)));
  }
  return Value::generator(std::move(out));
}

Value indent(Context& context, const Value& input, const A& a) {
  const Value width = a.get(0, "width", Value(int64_t{4}));
  const bool with_first = a.get(1, "first", Value(false)).is_true(),
             with_blank = a.get(2, "blank", Value(false)).is_true();
  if (width.is_integral()) context.expect_room(static_cast<size_t>(std::max<int64_t>(0, width.integer())));
  const std::string space =
      width.is_string() ? width.text()
                        : std::string(static_cast<size_t>(std::max<int64_t>(0, width.integer())), ' ');
  std::string out;
  bool is_first = true;
  const std::string text = input.str() + "\n";  // as Jinja: so that a last line end stays
  for (const std::string_view line : split_lines(text, false)) {
    context.expect_room(out.size() + line.size() + space.size());
    if (!is_first) out += "\n";
    if (is_first ? with_first : (with_blank || !line.empty())) out += space;
    out += line;
    is_first = false;
  }
  return out;
}

Value to_int(Context&, const Value& input, const A& a) {
  const Value otherwise = a.get(0, "default", Value(int64_t{0}));
  if (input.is_integral()) return input.integer();
  if (input.is_real())
    return std::isfinite(input.real()) && std::fabs(input.real()) < 9.2e18
               ? Value(static_cast<int64_t>(input.real()))
               : otherwise;
  if (!input.is_string()) return otherwise;
  const std::string text(stripped(input.text(), {}, Ends::both));
  int64_t integer = 0;
  const int base = static_cast<int>(a.get(1, "base", Value(int64_t{10})).integer());
  if (base < 2 || base > 36) return otherwise;
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto parsed = std::from_chars(begin, text.data() + text.size(), integer, base);
  if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size()) return integer;
  double real = 0.0;
  const auto as_real = std::from_chars(begin, text.data() + text.size(), real);
  const bool is_real =
      as_real.ec == std::errc() && as_real.ptr == text.data() + text.size() && std::fabs(real) < 9.2e18;
  return is_real ? Value(static_cast<int64_t>(real)) : otherwise;
}

Value to_float(Context&, const Value& input, const A& a) {
  const Value otherwise = a.get(0, "default", Value(0.0));
  if (input.is_number()) return input.real();
  if (!input.is_string()) return otherwise;
  const std::string_view text = stripped(input.text(), {}, Ends::both);
  double real = 0.0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), real);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() ? Value(real) : otherwise;
}

Value round(Context&, const Value& input, const A& a) {
  const int64_t precision =
      std::clamp<int64_t>(a.get(0, "precision", Value(int64_t{0})).integer(), -300, 300);
  const std::string method = a.get(1, "method", Value("common")).text();
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double x = input.real() * scale;
  if (method == "ceil") return std::ceil(x) / scale;
  if (method == "floor") return std::floor(x) / scale;
  if (method != "common") throw RenderError("method must be common, ceil or floor");
  return std::nearbyint(x) / scale;
}

Value sum(Context& context, const Value& input, const A& a) {
  Value total = a.get(1, "start", Value(int64_t{0}));
  for (const Value& item : charged_items(context, input)) {
    const Value each = attribute_argument(context, item, a.get(0, "attribute", Value()));
    if (total.is_integral() && each.is_integral()) {
      int64_t next = 0;
      if (__builtin_add_overflow(total.integer(), each.integer(), &next))
        throw RenderError("an integer is too large");
      total = next;
    } else {
      total = total.real() + each.real();
    }
  }
  return total;
}

Value to_json(Context& context, const Value& input, const A& a) {
  JsonStyle style;
  const Value indentation = a.get(1, "indent", a.get(SIZE_MAX, "indent", Value()));
  if (!indentation.is_none()) style.indent = std::clamp<int64_t>(indentation.integer(), 0, 64);
  style.is_ascii = a.get(0, "ensure_ascii", Value(false)).is_true();
  style.sorts_keys = a.get(3, "sort_keys", Value(false)).is_true();
  if (const Value* separators = a.find(2, "separators"); separators != nullptr && !separators->is_none()) {
    if (separators->items().size() != 2) throw RenderError("separators are two texts");
    style.item_separator = separators->items()[0].text();
    style.key_separator = separators->items()[1].text();
  }
  std::string out = json_text(input, style);
  context.expect_room(out.size());
  return out;
}

// "%s has %d" % values.
Value format(Context& context, const Value& input, const A& a) {
  const std::string& text = input.text();
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    std::string spec = "{:";
    size_t precision = std::string::npos;
    for (++i; i < text.size() && std::string_view("0123456789.-+ ").find(text[i]) != std::string_view::npos &&
              spec.size() < 12;
         ++i) {
      if (text[i] == '.') precision = spec.size();
      spec += text[i] == '-' ? '<' : text[i];
    }
    const char kind = i < text.size() ? text[i] : '\0';
    if (kind == '%') {
      out += '%';
      continue;
    }
    const Value& value = a.need(next++, "value");
    try {
      if (kind == 'd' || kind == 'i') {
        out += fmt::format(fmt::runtime(spec + "}"),
                           value.is_real() ? static_cast<int64_t>(value.real()) : value.integer());
      } else if (kind == 'f' || kind == 'e' || kind == 'g') {
        out += fmt::format(
            fmt::runtime(spec + (precision == std::string::npos && kind == 'f' ? ".6" : "") + kind + "}"),
            value.real());
      } else if (kind == 'x' || kind == 'X' || kind == 'o') {
        out += fmt::format(fmt::runtime(spec + kind + "}"), value.integer());
      } else if (kind == 's' || kind == 'r') {
        const bool is_plain = spec == "{:";
        out += fmt::format(fmt::runtime(is_plain                      ? "{}"
                                        : spec.find('<') == spec.npos ? "{:>" + spec.substr(2) + "}"
                                                                      : spec + "}"),
                           kind == 's' ? value.str() : value.repr());
      } else {
        throw RenderError("unsupported format character");
      }
    } catch (const fmt::format_error&) {
      throw RenderError("unsupported format");
    }
    context.expect_room(out.size());
  }
  return out;
}

Value urlencode(Context& context, const Value& input, const A&) {
  std::string out;
  for (const char c : input.str()) {
    const bool is_safe = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         std::string_view("_.-~/").find(c) != std::string_view::npos;
    out += is_safe ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  context.expect_room(out.size());
  return out;
}

Value first(Context&, const Value& input, const A&) {
  const Values items = iterate(input);
  return items.empty() ? Value(Undefined{"No first item, sequence was empty."}) : items.front();
}
Value last(Context&, const Value& input, const A&) {
  const Values items = iterate(input);
  return items.empty() ? Value(Undefined{"No last item, sequence was empty."}) : items.back();
}

Value reverse(Context& context, const Value& input, const A&) {
  Values items = charged_items(context, input);
  std::ranges::reverse(items);
  if (!input.is_string()) return Value::list(std::move(items));
  std::string out;
  for (const Value& item : items) out += item.text();
  return out;
}

Value items_of(Context&, const Value& input, const A&) {
  if (input.is_undefined()) return Value::list({});
  Values out;
  for (const auto& [key, value] : input.dict().entries) out.push_back(Value::list({key, value}, true));
  return Value::list(std::move(out));
}

Value otherwise(Context&, const Value& input, const A& a) {
  const bool is_missing =
      input.is_undefined() || (a.get(1, "boolean", Value(false)).is_true() && !input.is_true());
  return is_missing ? a.get(0, "default_value", Value("")) : input;
}

Value truncate(Context&, const Value& input, const A& a) {
  const int64_t length = a.get(0, "length", Value(int64_t{255})).integer();
  const bool kills_words = a.get(1, "killwords", Value(false)).is_true();
  const std::string end = a.get(2, "end", Value("...")).text();
  const int64_t leeway = a.get(3, "leeway", Value(int64_t{5})).integer();
  const std::vector<std::string_view> all = characters(input.text());
  if (static_cast<int64_t>(all.size()) <= length + leeway) return input;
  std::string kept;
  for (int64_t i = 0; i < length - length_of(Value(end)); ++i) kept += all[static_cast<size_t>(i)];
  if (!kills_words && kept.rfind(' ') != kept.npos) kept.resize(kept.rfind(' '));
  return kept + end;
}

Value escape(Context&, const Value& input, const A&) {
  return input.is_markup() ? input : Value::markup(html_escaped(input.str()));
}

constexpr std::pair<std::string_view, Filter> kFilters[] = {
    {"abs",
     [](Context&, const Value& v, const A&) -> Value {
       return v.is_integral() ? Value(v.integer() < 0 ? -v.integer() : v.integer())
                              : Value(std::fabs(v.real()));
     }},
    {"attr",
     [](Context& c, const Value& v, const A& a) { return attribute_of(c, v, a.need(0, "name").text()); }},
    {"batch", batch},
    {"capitalize", [](Context&, const Value& v, const A&) -> Value { return capitalized(v.str()); }},
    {"count", [](Context&, const Value& v, const A&) -> Value { return length_of(v); }},
    {"d", otherwise},
    {"default", otherwise},
    {"dictsort", dictsort},
    {"e", escape},
    {"escape", escape},
    {"first", first},
    {"float", to_float},
    {"forceescape", escape},
    {"format", format},
    {"groupby", groupby},
    {"indent", indent},
    {"int", to_int},
    {"items", items_of},
    {"join", join},
    {"last", last},
    {"length", [](Context&, const Value& v, const A&) -> Value { return length_of(v); }},
    {"list", [](Context& c, const Value& v, const A&) -> Value { return Value::list(charged_items(c, v)); }},
    {"lower", [](Context&, const Value& v, const A&) -> Value { return lower(v.str()); }},
    {"map", map},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"pprint", [](Context&, const Value& v, const A&) -> Value { return v.repr(); }},
    {"reject", choose<false, false>},
    {"rejectattr", choose<false, true>},
    {"replace",
     [](Context& c, const Value& v, const A& a) -> Value {
       const std::string text = v.str(), from = a.need(0, "old").str(), to = a.need(1, "new").str();
       c.expect_room(text.size() + (from.empty() ? text.size() + 1 : text.size() / from.size()) * to.size());
       const Value count = a.get(2, "count", Value());
       return replaced(text, from, to, count.is_none() ? -1 : count.integer());
     }},
    {"reverse", reverse},
    {"round", round},
    {"safe", [](Context&, const Value& v, const A&) -> Value { return Value::markup(v.str()); }},
    {"select", choose<true, false>},
    {"selectattr", choose<true, true>},
    {"sort", sort},
    {"string", [](Context&, const Value& v, const A&) -> Value { return v.str(); }},
    {"sum", sum},
    {"title", [](Context&, const Value& v, const A&) -> Value { return titled(v.str()); }},
    {"tojson", to_json},
    {"trim",
     [](Context&, const Value& v, const A& a) -> Value {
       const Value chars = a.get(0, "chars", Value());
       return stripped(v.str(), chars.is_none() ? std::nullopt : std::optional(chars.text()), Ends::both);
     }},
    {"truncate", truncate},
    {"unique", unique},
    {"upper", [](Context&, const Value& v, const A&) -> Value { return upper(v.str()); }},
    {"urlencode", urlencode},
    {"wordcount",
     [](Context&, const Value& v, const A&) -> Value {
       return static_cast<int64_t>(split(v.str(), {}, -1).size());
     }},
};

}  // namespace

Filter find_filter(std::string_view name) {
  const auto* at = std::ranges::find(kFilters, name, &std::pair<std::string_view, Filter>::first);
  return at == std::end(kFilters) ? nullptr : at->second;
}

}  // namespace millrace::jinja
