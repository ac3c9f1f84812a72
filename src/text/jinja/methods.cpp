#include "text/jinja/methods.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"

namespace millrace::jinja {
namespace {

Value view_of(Interpreter& in, Call& call, DictView::Part part, std::string_view name) {
  call.expect_none(name);
  return Value(Kind::dict_view, in.heap().make<DictView>(call.self, part));
}
Value dict_keys(Interpreter& in, Call& call) { return view_of(in, call, DictView::Part::keys, "keys"); }
Value dict_values(Interpreter& in, Call& call) { return view_of(in, call, DictView::Part::values, "values"); }
Value dict_items(Interpreter& in, Call& call) { return view_of(in, call, DictView::Part::items, "items"); }

Value dict_get(Interpreter& in, Call& call) {
  const auto [key, fallback] = call.bind("get", {"", ""}, 1);
  const Value* value = call.self.as<Dict>().find(in.heap(), key);
  if (value != nullptr) return *value;
  return fallback.is_missing() ? Value::none() : fallback;
}

// Dicts never change, so a copy can be the same one.
Value dict_copy(Interpreter&, Call& call) {
  call.expect_none("copy");
  return call.self;
}

Value dict_fromkeys(Interpreter& in, Call& call) {
  const auto [keys, fallback] = call.bind("fromkeys", {"", ""}, 1);
  const Values all = to_values(in, keys);
  auto* dict = in.heap().make<Dict>(all.size());
  Value value(Kind::dict, dict);
  for (const Value& key : all) dict->set(in.heap(), key, fallback.is_missing() ? Value::none() : fallback);
  return value;
}

// The sandbox forbids append and its like, but not these two.
Value list_pop(Interpreter& in, Call& call) {
  const auto [index] = call.bind("pop", {""});
  Values& items = call.self.as<Sequence>().items;
  const auto size = static_cast<int64_t>(items.size());
  int64_t at = int_argument(index, -1);
  if (size == 0) raise("pop from empty list");
  if (at < 0) at += size;
  if (at < 0 || at >= size) raise("pop index out of range");
  in.heap().step(static_cast<uint64_t>(size - at) / 64);
  const auto position = items.begin() + at;
  Value item = std::move(*position);
  items.erase(position);
  return item;
}

Value list_clear(Interpreter&, Call& call) {
  call.expect_none("clear");
  call.self.as<Sequence>().items.clear();
  return Value::none();
}

Value list_copy(Interpreter& in, Call& call) {
  call.expect_none("copy");
  return make_list(in.heap(), call.self.as<Sequence>().items);
}

Value sequence_count(Interpreter& in, Call& call) {
  const auto [wanted] = call.bind("count", {""}, 1);
  int64_t n = 0;
  for (const Value& item : to_values(in, call.self)) n += is_equal(in.heap(), item, wanted) ? 1 : 0;
  return Value(n);
}

Value sequence_index(Interpreter& in, Call& call) {
  const auto [wanted, start, stop] = call.bind("index", {"", "", ""}, 1);
  const Values items = to_values(in, call.self);
  const auto size = static_cast<int64_t>(items.size());
  const auto bound = [size](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size); };
  const int64_t end = bound(int_argument(stop, size));
  for (int64_t i = bound(int_argument(start, 0)); i < end; ++i) {
    if (is_equal(in.heap(), items[static_cast<size_t>(i)], wanted)) return Value(i);
  }
  raise("the value is not in the {}", type_name(call.self));
}

Value int_bit_length(Interpreter&, Call& call) {
  call.expect_none("bit_length");
  const int64_t value = call.self.integer();
  uint64_t rest = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  int64_t n = 0;
  for (; rest != 0; rest >>= 1) ++n;
  return Value(n);
}

Value real_is_integer(Interpreter&, Call& call) {
  call.expect_none("is_integer");
  return Value(std::isfinite(call.self.real()) && call.self.real() == std::floor(call.self.real()));
}

Value loop_cycle(Interpreter&, Call& call) {
  call.expect_no_names("cycle");
  if (call.positional.empty()) raise("no items for cycling given");
  const auto at = static_cast<size_t>(std::max<int64_t>(call.self.as<Loop>().index0, 0));
  return call.positional[at % call.positional.size()];
}

Value loop_changed(Interpreter& in, Call& call) {
  call.expect_no_names("changed");
  Loop& loop = call.self.as<Loop>();
  Value values = make_tuple(in.heap(), call.positional);
  if (!loop.last_changed.is_missing() && is_equal(in.heap(), loop.last_changed, values)) return Value(false);
  loop.last_changed = std::move(values);
  return Value(true);
}

Value cycler_next(Interpreter&, Call& call) {
  call.expect_none("next");
  Cycler& cycler = call.self.as<Cycler>();
  Value item = cycler.items[cycler.at];
  cycler.at = (cycler.at + 1) % cycler.items.size();
  return item;
}

Value cycler_reset(Interpreter&, Call& call) {
  call.expect_none("reset");
  call.self.as<Cycler>().at = 0;
  return Value::none();
}

constexpr NamedBuiltin kDictMethods[] = {{"keys", dict_keys},   {"values", dict_values},
                                         {"items", dict_items}, {"get", dict_get},
                                         {"copy", dict_copy},   {"fromkeys", dict_fromkeys}};
constexpr NamedBuiltin kListMethods[] = {{"pop", list_pop},
                                         {"clear", list_clear},
                                         {"copy", list_copy},
                                         {"count", sequence_count},
                                         {"index", sequence_index}};
constexpr NamedBuiltin kSequenceMethods[] = {{"count", sequence_count}, {"index", sequence_index}};
constexpr NamedBuiltin kIntMethods[] = {{"bit_length", int_bit_length}};
constexpr NamedBuiltin kRealMethods[] = {{"is_integer", real_is_integer}};
constexpr NamedBuiltin kLoopMethods[] = {{"cycle", loop_cycle}, {"changed", loop_changed}};
constexpr NamedBuiltin kCyclerMethods[] = {{"next", cycler_next}, {"reset", cycler_reset}};

constexpr std::string_view kForbiddenOfDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kForbiddenOfList[] = {"append", "reverse", "insert", "sort", "extend", "remove"};

using MethodTable = std::unordered_map<std::string_view, Method>;

MethodTable make_table(std::span<const NamedBuiltin> methods,
                       std::span<const std::string_view> forbidden = {}) {
  MethodTable table;
  for (const NamedBuiltin& method : methods) table.emplace(method.name, Method{method.builtin, false});
  for (std::string_view name : forbidden) table.emplace(name, Method{nullptr, true});
  return table;
}

const MethodTable* table_of(Kind kind) {
  struct Tables {
    MethodTable string = make_table(string_methods());
    MethodTable dict = make_table(kDictMethods, kForbiddenOfDict);
    MethodTable list = make_table(kListMethods, kForbiddenOfList);
    MethodTable sequence = make_table(kSequenceMethods);
    MethodTable integer = make_table(kIntMethods);
    MethodTable real = make_table(kRealMethods);
    MethodTable loop = make_table(kLoopMethods);
    MethodTable cycler = make_table(kCyclerMethods);
  };
  static const auto* const kTables = new Tables();
  switch (kind) {
    case Kind::string:
      return &kTables->string;
    case Kind::dict:
      return &kTables->dict;
    case Kind::list:
      return &kTables->list;
    case Kind::tuple:
    case Kind::range:
      return &kTables->sequence;
    case Kind::boolean:
    case Kind::integer:
      return &kTables->integer;
    case Kind::real:
      return &kTables->real;
    case Kind::loop:
      return &kTables->loop;
    case Kind::cycler:
      return &kTables->cycler;
    default:
      return nullptr;
  }
}

}  // namespace

const Method* find_method(Kind kind, std::string_view name) {
  const MethodTable* table = table_of(kind);
  if (table == nullptr) return nullptr;
  const auto found = table->find(name);
  return found == table->end() ? nullptr : &found->second;
}

}  // namespace millrace::jinja
