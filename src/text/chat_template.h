// A model's chat template: messages to the prompt text it was trained on. Jinja, as Hugging Face renders it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"

namespace millrace {

// const after it is made; any thread may render.
class ChatTemplate {
 public:
  // Throws Error(bad_model) with line and column when the source is no template.
  explicit ChatTemplate(std::string_view source);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // `variables` is an object: messages, tools, add_generation_prompt, bos_token, eos_token, whatever else the
  // template reads. `now` (ISO 8601, local time) is what strftime_now sees; empty: the clock.
  // Throws Error(runtime): the template's own raise_exception, an undefined operation, or a budget (steps,
  // output size, depth) that is spent. A template cannot reach files, the environment or the host.
  std::string render(const Json& variables, std::string_view now = {}) const;

 private:
  struct Compiled;
  std::unique_ptr<const Compiled> compiled_;
};

}  // namespace millrace
