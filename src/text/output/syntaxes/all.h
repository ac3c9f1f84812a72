// The syntaxes, one file each.
#pragma once

#include "text/output/tool_syntax.h"

namespace millrace::syntaxes {

extern const ToolSyntax apertus, apriel, cohere, command_r, deepseek_dsml, deepseek_r1, deepseek_v31,
    functionary, functionary2, gemma, gigachat, gigachat_role, glm, granite, harmony, hermes, kimi, lfm,
    llama, llama4, llama4_json, minimax, mistral, mistral_list, phi, plain, qwen_coder, seed;

}  // namespace millrace::syntaxes
