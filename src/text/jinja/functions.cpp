// The functions a template can call by name.
#include "base/error.h"
#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/py_text.h"
#include "text/jinja/strftime.h"

namespace millrace::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // the sandbox of Jinja has the same limit

Value function_range(Interpreter& in, Call& call) {
  call.expect_no_names("range");
  const auto [first, second, third] = call.bind("range", {"", "", ""}, 1);
  const int64_t start = second.is_missing() ? 0 : int_argument(first, 0);
  const int64_t stop = second.is_missing() ? int_argument(first, 0) : int_argument(second, 0);
  const int64_t step = int_argument(third, 1);
  if (step == 0) raise("range() arg 3 must not be zero");
  auto* range = in.heap().make<Range>(start, stop, step);
  Value value(Kind::range, range);
  if (range->size() > kMaxRange) raise("a range of more than {} numbers is not allowed", kMaxRange);
  return value;
}

// dict(pairs or a mapping, **more)
Value make_dict(Interpreter& in, Call& call, std::string_view function) {
  if (call.positional.size() > 1)
    raise("{}() takes at most 1 argument, found {}", function, call.positional.size());
  Values pairs;
  if (!call.positional.empty() && call.positional[0].is(Kind::dict)) {
    for (const auto& [key, value] : call.positional[0].as<Dict>().entries()) {
      in.heap().step();
      pairs.push_back(key);
      pairs.push_back(value);
    }
  } else if (!call.positional.empty()) {
    for (const Value& pair : to_values(in, call.positional[0])) {
      const Values both = to_values(in, pair);
      if (both.size() != 2)
        raise("{}() needs pairs of a key and a value, found {} values", function, both.size());
      pairs.insert(pairs.end(), both.begin(), both.end());
    }
  }
  for (const auto& [name, value] : call.named) {
    pairs.push_back(name);
    pairs.push_back(value);
  }
  auto* dict = in.heap().make<Dict>(pairs.size() / 2);
  Value result(Kind::dict, dict);
  for (size_t i = 0; i < pairs.size(); i += 2) dict->set(in.heap(), pairs[i], pairs[i + 1]);
  return result;
}

Value function_dict(Interpreter& in, Call& call) { return make_dict(in, call, "dict"); }

Value function_namespace(Interpreter& in, Call& call) {
  const Value dict = make_dict(in, call, "namespace");
  auto* nspace = in.heap().make<Namespace>();
  Value value(Kind::nspace, nspace);
  for (const auto& [key, attribute] : dict.as<Dict>().entries()) {
    if (!key.is_string()) raise("the attributes of a namespace need names, found '{}'", type_name(key));
    nspace->attributes.emplace_back(key, attribute);
  }
  return value;
}

Value function_cycler(Interpreter& in, Call& call) {
  call.expect_no_names("cycler");
  if (call.positional.empty()) raise("at least one item has to be provided");
  return Value(Kind::cycler, in.heap().make<Cycler>(std::move(call.positional)));
}

Value function_joiner(Interpreter& in, Call& call) {
  const auto [separator] = call.bind("joiner", {"sep"});
  return Value(Kind::joiner,
               in.heap().make<Joiner>(separator.is_missing() ? make_string(in.heap(), ", ") : separator));
}

Value function_raise_exception(Interpreter& in, Call& call) {
  const auto [message] = call.bind("raise_exception", {"message"}, 1);
  throw TemplateRefusal(printable(to_str(in.heap(), message), 1000));
}

Value function_strftime_now(Interpreter& in, Call& call) {
  const auto [format] = call.bind("strftime_now", {"format"}, 1);
  return make_string(in.heap(), format_time(in.now(), string_argument(format)));
}

}  // namespace

std::span<const NamedBuiltin> global_functions() {
  static constexpr NamedBuiltin kFunctions[] = {
      {"range", function_range},
      {"dict", function_dict},
      {"namespace", function_namespace},
      {"cycler", function_cycler},
      {"joiner", function_joiner},
      {"raise_exception", function_raise_exception},
      {"strftime_now", function_strftime_now},
  };
  return kFunctions;
}

}  // namespace millrace::jinja
