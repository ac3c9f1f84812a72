// How a template fails. Both end as Error in chat_template.cpp, which adds the line.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <utility>

namespace millrace::jinja {

// The source is no template.
struct SyntaxError : std::runtime_error {
  SyntaxError(size_t at, const std::string& text) : std::runtime_error(text), offset(at) {}
  size_t offset;  // in the source, after its line ends have become \n
};

// The render cannot go on: an undefined operation, a spent budget.
struct RenderError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The template refused what it was given: raise_exception(message).
struct TemplateRefusal : RenderError {
  using RenderError::RenderError;
};

template <class... Args>
[[noreturn]] void raise(fmt::format_string<Args...> format, Args&&... args) {
  throw RenderError(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace millrace::jinja
