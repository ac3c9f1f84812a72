// Source text to a Program.
#pragma once

#include <memory>
#include <string_view>

#include "text/jinja/ast.h"

namespace millrace::jinja {

// Throws Error(bad_model) with line and column.
std::unique_ptr<const Program> compile(std::string_view source);

}  // namespace millrace::jinja
