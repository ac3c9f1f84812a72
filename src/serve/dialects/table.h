// One line a dialect: each is a file here.
#pragma once

#include "serve/dialect.h"

namespace millrace {

Dialect anthropic_dialect();
Dialect llama_server_dialect();
Dialect ollama_dialect();
Dialect openai_dialect();
Dialect tgi_dialect();
Dialect web_page();

}  // namespace millrace
