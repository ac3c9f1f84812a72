#include <algorithm>

#include "text/jinja/filters.h"
#include "text/jinja/operators.h"
#include "text/jinja/py_string.h"
#include "text/jinja/py_text.h"

namespace millrace::jinja {
namespace {

Value filter_default(Interpreter& in, Call& call) {
  const auto [fallback, boolean] = call.bind("default", {"default_value", "boolean"});
  const bool takes_false = is_true(in.heap(), boolean);
  if (!call.self.is_undefined() && (!takes_false || is_true(in.heap(), call.self))) return call.self;
  return fallback.is_missing() ? make_string(in.heap(), "") : fallback;
}

Value filter_length(Interpreter& in, Call& call) {
  call.expect_none("length");
  if (call.self.is(Kind::loop)) return Value(call.self.as<Loop>().count(in));
  const int64_t length = length_of(call.self);
  if (length < 0) raise("object of type '{}' has no len()", type_name(call.self));
  return Value(length);
}

Value filter_list(Interpreter& in, Call& call) {
  call.expect_none("list");
  return make_list(in.heap(), to_values(in, call.self));
}

Value filter_first(Interpreter& in, Call& call) {
  call.expect_none("first");
  Value item;
  if (iterate(in, call.self)->next(in, item)) return item;
  return make_undefined(in.heap(), "No first item, sequence was empty.");
}

bool is_reversible(const Value& value) {
  return value.is_undefined() || value.is_sequence() || value.is(Kind::dict) || value.is(Kind::dict_view) ||
         value.is(Kind::range) || value.is_string();
}

Value filter_last(Interpreter& in, Call& call) {
  call.expect_none("last");
  if (!is_reversible(call.self)) raise("'{}' object is not reversible", type_name(call.self));
  const Values items = to_values(in, call.self);
  return items.empty() ? make_undefined(in.heap(), "No last item, sequence was empty.") : items.back();
}

Value filter_reverse(Interpreter& in, Call& call) {
  call.expect_none("reverse");
  if (call.self.is_string()) return slice(in, call.self, Value(), Value(), Value(int64_t{-1}));
  if (!is_iterable(call.self)) raise("argument must be iterable");
  Values items = to_values(in, call.self);
  std::ranges::reverse(items);
  const Value reversed = make_list(in.heap(), std::move(items));
  return is_reversible(call.self) ? Value(Kind::iterator, iterate(in, reversed).get()) : reversed;
}

Value filter_join(Interpreter& in, Call& call) {
  const auto [separator, attribute] = call.bind("join", {"d", "attribute"});
  const KeyPath key(in, attribute);
  const std::string between = separator.is_missing() ? "" : to_str(in.heap(), separator);
  const Ref<Iterator> items = iterate(in, call.self);
  std::string out;
  bool is_first = true;
  for (Value item; items->next(in, item);) {
    in.heap().step_bytes(between.size());
    if (!std::exchange(is_first, false)) out += between;
    append_str(in.heap(), out, key(in, std::move(item)));
    in.heap().expect_room(out.size());
  }
  return make_string(in.heap(), std::move(out));
}

// A comma-separated attribute sorts by several.
Value filter_sort(Interpreter& in, Call& call) {
  const auto [reverse, case_sensitive, attribute] =
      call.bind("sort", {"reverse", "case_sensitive", "attribute"});
  const bool ignores_case = !is_true(in.heap(), case_sensitive);
  std::vector<KeyPath> paths;
  if (attribute.is_string()) {
    const std::string_view names = text_of(attribute);
    for (size_t begin = 0; begin <= names.size();) {
      const size_t end = std::min(names.find(',', begin), names.size());
      const Value name = make_string(in.heap(), std::string(names.substr(begin, end - begin)));
      paths.emplace_back(in, name, ignores_case);
      begin = end + 1;
    }
  } else {
    paths.emplace_back(in, attribute, ignores_case);
  }
  const auto key = [&](const Value& item) {
    Values keys;
    for (const KeyPath& path : paths) keys.push_back(path(in, item));
    return make_list(in.heap(), std::move(keys));
  };
  return make_list(in.heap(), sort_by(in, to_values(in, call.self), key, is_true(in.heap(), reverse)));
}

Value filter_dictsort(Interpreter& in, Call& call) {
  const auto [case_sensitive, by, reverse] = call.bind("dictsort", {"case_sensitive", "by", "reverse"});
  const std::string side = by.is_missing() ? "key" : string_argument(by);
  if (side != "key" && side != "value") raise("You can only sort by either \"key\" or \"value\"");
  if (call.self.is_undefined()) raise_undefined(call.self);
  if (!call.self.is(Kind::dict)) raise("'{}' object has no attribute 'items'", type_name(call.self));
  Values items;
  for (const auto& [key, value] : call.self.as<Dict>().entries()) {
    items.push_back(make_tuple(in.heap(), {key, value}));
  }
  const KeyPath path(in, Value(int64_t{side == "key" ? 0 : 1}), !is_true(in.heap(), case_sensitive));
  const auto key = [&](const Value& item) { return path(in, item); };
  return make_list(in.heap(), sort_by(in, std::move(items), key, is_true(in.heap(), reverse)));
}

Value filter_items(Interpreter& in, Call& call) {
  call.expect_none("items");
  return make_generator(
      in.heap(), [of = call.self, items = Ref<Iterator>()](Interpreter& inner, Value& item) mutable {
        if (of.is_undefined()) return false;
        if (!of.is(Kind::dict)) raise("Can only get item pairs from a mapping.");
        if (!items) {
          const Value view(Kind::dict_view, inner.heap().make<DictView>(of, DictView::Part::items));
          items = iterate(inner, view);
        }
        return items->next(inner, item);
      });
}

Value filter_unique(Interpreter& in, Call& call) {
  const auto [case_sensitive, attribute] = call.bind("unique", {"case_sensitive", "attribute"});
  const KeyPath key(in, attribute, !is_true(in.heap(), case_sensitive));
  // The keys that were seen, in a dict that is made anew when it is full.
  auto seen = Value(Kind::dict, in.heap().make<Dict>(8));
  return make_generator(in.heap(), [of = call.self, key, seen, items = Ref<Iterator>()](Interpreter& inner,
                                                                                        Value& item) mutable {
    Heap& heap = inner.heap();
    if (!items) items = iterate(inner, of);
    while (items->next(inner, item)) {
      const Value found = key(inner, item);
      if (seen.as<Dict>().find(heap, found) != nullptr) continue;
      const std::vector<Dict::Entry>& known = seen.as<Dict>().entries();
      if ((known.size() & (known.size() - 1)) == 0 && known.size() >= 8) {
        auto* larger = heap.make<Dict>(2 * known.size());
        const Value next(Kind::dict, larger);
        for (const auto& [other, unused] : known) larger->set(heap, other, Value::none());
        seen = next;
      }
      seen.as<Dict>().set(heap, found, Value::none());
      return true;
    }
    return false;
  });
}

Value filter_batch(Interpreter& in, Call& call) {
  const auto [linecount, fill] = call.bind("batch", {"linecount", "fill_with"}, 1);
  const int64_t size = int_argument(linecount, 1);
  return make_generator(in.heap(), [of = call.self, size, fill = fill, items = Ref<Iterator>(),
                                    batch = Values()](Interpreter& inner, Value& item) mutable {
    if (!items) items = iterate(inner, of);
    for (Value next; items->next(inner, next);) {
      const bool is_full = static_cast<int64_t>(batch.size()) == size;
      if (is_full) item = make_list(inner.heap(), std::exchange(batch, Values()));
      batch.push_back(std::move(next));
      if (is_full) return true;
    }
    if (batch.empty()) return false;
    if (is_given(fill) && static_cast<int64_t>(batch.size()) < size) {
      inner.heap().expect_room(static_cast<size_t>(std::min<int64_t>(size, INT32_MAX)) * sizeof(Value));
      inner.heap().step(static_cast<uint64_t>(size));
      batch.resize(static_cast<size_t>(size), fill);
    }
    item = make_list(inner.heap(), std::exchange(batch, Values()));
    return true;
  });
}

Value filter_slice(Interpreter& in, Call& call) {
  const auto [slices, fill] = call.bind("slice", {"slices", "fill_with"}, 1);
  const int64_t n = int_argument(slices, 1);
  return make_generator(in.heap(), [of = call.self, n, fill = fill, i = int64_t{0}, offset = int64_t{0},
                                    all = std::optional<Values>()](Interpreter& inner, Value& item) mutable {
    if (!all) all = to_values(inner, of);
    if (n == 0) raise("integer division or modulo by zero");
    if (i >= n) return false;
    inner.heap().step();
    const auto size = static_cast<int64_t>(all->size());
    const int64_t per_slice = size / n;
    const bool has_extra = i < size % n;
    const int64_t begin = offset + i * per_slice;
    offset += has_extra ? 1 : 0;
    const int64_t end = offset + ++i * per_slice;
    Values part(all->begin() + begin, all->begin() + end);
    if (is_given(fill) && !has_extra) part.push_back(fill);
    item = make_list(inner.heap(), std::move(part));
    return true;
  });
}

Value filter_groupby(Interpreter& in, Call& call) {
  const auto [attribute, fallback, case_sensitive] =
      call.bind("groupby", {"attribute", "default", "case_sensitive"}, 1);
  const bool ignores_case = !is_true(in.heap(), case_sensitive);
  const KeyPath path(in, attribute, ignores_case, fallback);
  const KeyPath exact(in, attribute, false, fallback);
  const auto key = [&](const Value& item) { return path(in, item); };
  const Values sorted = sort_by(in, to_values(in, call.self), key, false);
  Values groups;
  for (size_t begin = 0; begin < sorted.size();) {
    const Value first = key(sorted[begin]);
    size_t end = begin + 1;
    while (end < sorted.size() && is_equal(in.heap(), key(sorted[end]), first)) ++end;
    Values members(sorted.begin() + static_cast<ptrdiff_t>(begin),
                   sorted.begin() + static_cast<ptrdiff_t>(end));
    Values pair = {ignores_case ? exact(in, sorted[begin]) : first, make_list(in.heap(), std::move(members))};
    groups.push_back(Value(Kind::tuple, in.heap().make<Sequence>(std::move(pair), true)));
    begin = end;
  }
  return make_list(in.heap(), std::move(groups));
}

Value filter_sum(Interpreter& in, Call& call) {
  const auto [attribute, start] = call.bind("sum", {"attribute", "start"});
  const KeyPath key(in, attribute);
  Value sum = start.is_missing() ? Value(int64_t{0}) : start;
  if (sum.is_string()) raise("sum() can't sum strings [use ''.join(seq) instead]");
  const Ref<Iterator> items = iterate(in, call.self);
  for (Value item; items->next(in, item);) {
    sum = apply(in, Operator::add, sum, key(in, std::move(item)));
  }
  return sum;
}

Value find_extreme(Interpreter& in, Call& call, std::string_view name, bool is_max) {
  const auto [case_sensitive, attribute] = call.bind(name, {"case_sensitive", "attribute"});
  const KeyPath key(in, attribute, !is_true(in.heap(), case_sensitive));
  const Ref<Iterator> items = iterate(in, call.self);
  Value best;
  Value best_key;
  for (Value item; items->next(in, item);) {
    const Value item_key = key(in, item);
    if (!best.is_missing() &&
        !(is_max ? is_less(in.heap(), best_key, item_key) : is_less(in.heap(), item_key, best_key))) {
      continue;
    }
    best = std::move(item);
    best_key = item_key;
  }
  return best.is_missing() ? make_undefined(in.heap(), "No aggregated item, sequence was empty.") : best;
}

Value filter_min(Interpreter& in, Call& call) { return find_extreme(in, call, "min", false); }
Value filter_max(Interpreter& in, Call& call) { return find_extreme(in, call, "max", true); }

}  // namespace

std::span<const NamedBuiltin> sequence_filters() {
  static constexpr NamedBuiltin kFilters[] = {
      {"default", filter_default}, {"d", filter_default},         {"length", filter_length},
      {"count", filter_length},    {"list", filter_list},         {"first", filter_first},
      {"last", filter_last},       {"reverse", filter_reverse},   {"join", filter_join},
      {"sort", filter_sort},       {"dictsort", filter_dictsort}, {"items", filter_items},
      {"unique", filter_unique},   {"batch", filter_batch},       {"slice", filter_slice},
      {"groupby", filter_groupby}, {"sum", filter_sum},           {"min", filter_min},
      {"max", filter_max},
  };
  return kFilters;
}

}  // namespace millrace::jinja
