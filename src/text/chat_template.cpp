#include "text/chat_template.h"

#include <algorithm>

#include "text/jinja/ast.h"
#include "text/jinja/builtins.h"
#include "text/jinja/lexer.h"

namespace millrace {
namespace {

constexpr size_t kMaxSourceBytes = size_t{1} << 20;

// Line ends as \n, without the last one: what Jinja reads.
std::string normalised(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

}  // namespace

struct ChatTemplate::Compiled {
  jinja::Block block;
};

ChatTemplate::ChatTemplate(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    fail(ErrorKind::bad_model, "the chat template has {} bytes, more than the {} allowed", source.size(),
         kMaxSourceBytes);
  }
  const std::string text = normalised(source);
  try {
    compiled_ = std::make_unique<const Compiled>(Compiled{jinja::parse(text)});
  } catch (const jinja::SyntaxError& error) {
    const auto line = 1 + std::ranges::count(std::string_view(text).substr(0, error.offset), '\n');
    fail(ErrorKind::bad_model, "the chat template is broken in line {}: {}", line,
         printable(error.what(), 300));
  }
}

ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const Json& variables, std::string_view now) const {
  try {
    jinja::Context context(now);
    jinja::define_functions(context);
    for (const char* name : {"tools", "documents"})
      context.set(name, jinja::Value());  // None where they are not given
    for (const auto& [name, value] : variables.as_object()) context.set(name, jinja::value_of(value));
    jinja::run_block(compiled_->block, context);
    return context.take_output();
  } catch (const jinja::RenderError& error) {
    fail(ErrorKind::runtime, "the chat template refuses: {}", printable(error.what(), 500));
  }
}

}  // namespace millrace
