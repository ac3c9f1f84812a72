#include "text/infill.h"

#include <string_view>

namespace millrace {
namespace {

// As the vocabularies of published models spell them.
struct Spelling {
  std::string_view prefix, suffix, middle, file;
};
constexpr Spelling kSpellings[] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>"},  // Qwen-Coder, CodeGemma
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>"},          // StarCoder 2, Granite
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>", ""},                    // SantaCoder
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", ""},              // DeepSeek
    {"<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>", ""},           // GLM-4.5
    {"▁<PRE>", "▁<SUF>", "▁<MID>", ""},                                      // Code Llama
};
constexpr std::string_view kEnds[] = {"<|fim_pad|>", "<fim_pad>", "<fim-pad>", "<|repo_name|>", "▁<EOT>"};

struct Tokens {
  int32_t prefix, suffix, middle;
  std::optional<int32_t> file;
};

std::optional<Tokens> find_tokens(const Tokenizer& tokenizer) {
  for (const Spelling& spelling : kSpellings) {
    const auto prefix = tokenizer.find_piece(spelling.prefix), suffix = tokenizer.find_piece(spelling.suffix),
               middle = tokenizer.find_piece(spelling.middle);
    if (prefix && suffix && middle)
      return Tokens{*prefix, *suffix, *middle, tokenizer.find_piece(spelling.file)};
  }
  return std::nullopt;
}

}  // namespace

std::optional<InfillPrompt> encode_infill(const Tokenizer& tokenizer, const InfillText& text) {
  const std::optional<Tokens> tokens = find_tokens(tokenizer);
  if (!tokens) return std::nullopt;
  InfillPrompt out;
  const auto add = [&](std::string_view more) {
    const auto ids = tokenizer.encode(more, {.add_special = false});
    out.ids.insert(out.ids.end(), ids.begin(), ids.end());
  };
  const auto begin = tokenizer.encode("", {.add_special = true});
  if (!begin.empty() && begin.front() == tokenizer.bos()) out.ids.push_back(begin.front());
  for (const InfillText::File& file : text.files) {
    if (tokens->file) out.ids.push_back(*tokens->file);
    add(file.name + "\n" + file.text + "\n");
  }
  out.ids.push_back(tokens->prefix);
  add(text.prefix);
  out.ids.push_back(tokens->suffix);
  add(text.suffix);
  out.ids.push_back(tokens->middle);
  add(text.begun);
  if (tokens->file) out.end_tokens.push_back(*tokens->file);
  for (const std::string_view end : kEnds) {
    if (const auto id = tokenizer.find_piece(end)) out.end_tokens.push_back(*id);
  }
  return out;
}

}  // namespace millrace
