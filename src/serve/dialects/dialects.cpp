#include "serve/dialects/table.h"

namespace millrace {

std::span<const Dialect> all_dialects() {
  static const Dialect kDialects[] = {
      openai_dialect(),       anthropic_dialect(), ollama_dialect(),
      llama_server_dialect(), tgi_dialect(),       web_page(),
  };
  return kDialects;
}

}  // namespace millrace
