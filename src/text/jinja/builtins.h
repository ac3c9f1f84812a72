// What a template finds by name. One explicit table each, in filters.cpp, tests.cpp, functions.cpp,
// methods.cpp.
#pragma once

#include <span>
#include <string_view>

#include "text/jinja/ast.h"
#include "text/jinja/call.h"

namespace millrace::jinja {

struct NamedBuiltin {
  std::string_view name;
  Builtin builtin;
};

// nullptr where there is none of that name.
Builtin find_filter(std::string_view name);
Builtin find_test(std::string_view name);
std::span<const NamedBuiltin> global_functions();

struct Method {
  Builtin builtin;
  bool is_forbidden;  // it would change a list or dict: there, but not to be called
};
// nullptr where values of that kind have no such method.
const Method* find_method(Kind kind, std::string_view name);

// A method of a value, or a function: what a name or attribute gives before it is called.
struct BoundBuiltin final : Object {
  BoundBuiltin(Value of, Builtin what) : self(std::move(of)), builtin(what) {}
  void release_children() override { self = Value(); }
  size_t n_bytes() const override { return sizeof(*this); }
  Value self;
  Builtin builtin;
};

}  // namespace millrace::jinja
