#include "text/chat_template.h"

#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"

namespace millrace {

struct ChatTemplate::Compiled {
  std::unique_ptr<const jinja::Program> program;
};

ChatTemplate::ChatTemplate(std::string_view source)
    : compiled_(std::make_unique<const Compiled>(Compiled{jinja::compile(source)})) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(const Json& variables, std::string_view now) const {
  uint32_t line = 0;
  try {
    jinja::Interpreter interpreter(*compiled_->program, variables, now);
    try {
      return interpreter.run();
    } catch (const jinja::RenderError&) {
      line = interpreter.line();
      throw;
    }
  } catch (const jinja::TemplateRefusal& refusal) {
    fail(ErrorKind::runtime, "the chat template refuses these messages (line {}): {}", line, refusal.what());
  } catch (const jinja::RenderError& error) {
    fail(ErrorKind::runtime, "the chat template fails at line {}: {}", line, error.what());
  }
}

}  // namespace millrace
