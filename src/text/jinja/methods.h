// Methods of strings; those of the other values stand in methods.cpp.
#pragma once

#include <span>

#include "text/jinja/builtins.h"

namespace millrace::jinja {

std::span<const NamedBuiltin> string_methods();

}  // namespace millrace::jinja
