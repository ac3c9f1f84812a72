// Filters that apply another filter or test to each item, when the item is asked for.
#include "base/error.h"
#include "text/jinja/filters.h"
#include "text/jinja/operators.h"

namespace millrace::jinja {
namespace {

using Named = std::vector<std::pair<Value, Value>>;

Value take_named(Named& named, std::string_view name) {
  for (auto it = named.begin(); it != named.end(); ++it) {
    if (text_of(it->first) != name) continue;
    Value value = it->second;
    named.erase(it);
    return value;
  }
  return Value();
}

// A filter or test chosen by name at run time, with the rest of the arguments.
struct Applied {
  Builtin builtin;
  Values positional;
  Named named;

  Value operator()(Interpreter& in, Value to) const {
    Call call{std::move(to), positional, named};
    return builtin(in, call);
  }
};

Applied apply_named(const Value& name, Builtin (*find)(std::string_view), std::string_view what,
                    Values positional, Named named) {
  const Builtin builtin = name.is_string() ? find(text_of(name)) : nullptr;
  if (builtin == nullptr) {
    raise("there is no {} '{}'", what, name.is_string() ? printable(text_of(name)) : type_name(name));
  }
  return {builtin, std::move(positional), std::move(named)};
}

std::function<Value(Interpreter&, Value)> make_mapping(Interpreter& in, Values positional, Named named) {
  if (positional.empty()) {
    const Value attribute = take_named(named, "attribute");
    if (attribute.is_missing()) raise("map requires a filter argument");
    const Value fallback = take_named(named, "default");
    if (!named.empty()) raise("map() has no argument named '{}'", printable(text_of(named[0].first)));
    return KeyPath(in, attribute, false, fallback);
  }
  const Value name = positional[0];
  positional.erase(positional.begin());
  return apply_named(name, find_filter, "filter", std::move(positional), std::move(named));
}

Value filter_map(Interpreter& in, Call& call) {
  return make_generator(
      in.heap(),
      [of = call.self, positional = call.positional, named = call.named, items = Ref<Iterator>(),
       mapping = std::function<Value(Interpreter&, Value)>()](Interpreter& inner, Value& item) mutable {
        if (!items) {
          if (!is_true(inner.heap(), of)) return false;
          mapping = make_mapping(inner, positional, named);
          items = iterate(inner, of);
        }
        Value next;
        if (!items->next(inner, next)) return false;
        item = mapping(inner, std::move(next));
        return true;
      });
}

using Predicate = std::function<bool(Interpreter&, const Value&)>;

Predicate make_predicate(Interpreter& in, Values positional, Named named, bool looks_at_attribute) {
  if (looks_at_attribute && positional.empty()) raise("Missing parameter for attribute name");
  const KeyPath key(in, looks_at_attribute ? positional[0] : Value());
  const size_t n_taken = looks_at_attribute ? 1 : 0;
  if (positional.size() <= n_taken) {
    return [key](Interpreter& inner, const Value& item) { return is_true(inner.heap(), key(inner, item)); };
  }
  const Value name = positional[n_taken];
  positional.erase(positional.begin(), positional.begin() + static_cast<ptrdiff_t>(n_taken) + 1);
  const Applied test = apply_named(name, find_test, "test", std::move(positional), std::move(named));
  return [key, test](Interpreter& inner, const Value& item) {
    return is_true(inner.heap(), test(inner, key(inner, item)));
  };
}

struct Selection {
  bool keeps_true;
  bool looks_at_attribute;
};

Value select(Interpreter& in, Call& call, Selection how) {
  return make_generator(
      in.heap(), [of = call.self, positional = call.positional, named = call.named, how,
                  items = Ref<Iterator>(), predicate = Predicate()](Interpreter& inner, Value& item) mutable {
        if (!items) {
          if (!is_true(inner.heap(), of)) return false;
          predicate = make_predicate(inner, positional, named, how.looks_at_attribute);
          items = iterate(inner, of);
        }
        while (items->next(inner, item)) {
          inner.heap().step();
          if (predicate(inner, item) == how.keeps_true) return true;
        }
        return false;
      });
}

Value filter_select(Interpreter& in, Call& call) {
  return select(in, call, {.keeps_true = true, .looks_at_attribute = false});
}
Value filter_reject(Interpreter& in, Call& call) {
  return select(in, call, {.keeps_true = false, .looks_at_attribute = false});
}
Value filter_selectattr(Interpreter& in, Call& call) {
  return select(in, call, {.keeps_true = true, .looks_at_attribute = true});
}
Value filter_rejectattr(Interpreter& in, Call& call) {
  return select(in, call, {.keeps_true = false, .looks_at_attribute = true});
}

// Only what is an attribute, no item.
Value filter_attr(Interpreter& in, Call& call) {
  const auto [name] = call.bind("attr", {"name"}, 1);
  const std::string& text = string_argument(name);
  if (call.self.is(Kind::dict) && find_method(Kind::dict, text) == nullptr) {
    return make_undefined(in.heap(), fmt::format("'dict object' has no attribute '{}'", printable(text)));
  }
  return get_attribute(in, call.self, name);
}

}  // namespace

std::span<const NamedBuiltin> select_filters() {
  static constexpr NamedBuiltin kFilters[] = {
      {"map", filter_map},
      {"select", filter_select},
      {"reject", filter_reject},
      {"selectattr", filter_selectattr},
      {"rejectattr", filter_rejectattr},
      {"attr", filter_attr},
  };
  return kFilters;
}

}  // namespace millrace::jinja
