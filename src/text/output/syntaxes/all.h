// The syntaxes, one file each.
#pragma once

#include "text/output/tool_syntax.h"

namespace millrace::syntaxes {

extern const ToolSyntax apriel, cohere, deepseek_dsml, deepseek_r1, deepseek_v31, functionary, gemma, glm,
    granite, harmony, hermes, kimi, llama, minimax, mistral, mistral_list, phi, plain, qwen_coder, seed;

}  // namespace millrace::syntaxes
