// What tokenizers_oracle.py asks: encodes and decodes texts with a tokenizer, many in one process.
//   tokenizer_probe FILE     FILE: a tokenizer.json or a GGUF file
// stdin: texts, each a u32 length and its bytes. stdout, for each: ids with and without the special tokens
// (u32 count, i32 each), then both decoded, with special tokens shown and hidden (u32 length, bytes).
#include <fmt/core.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/gguf.h"
#include "text/tokenizer.h"

namespace millrace {
namespace {

std::optional<std::string> read_text() {
  uint32_t n_bytes = 0;
  if (std::fread(&n_bytes, sizeof(n_bytes), 1, stdin) != 1) return std::nullopt;
  std::string text(n_bytes, '\0');
  if (n_bytes > 0 && std::fread(text.data(), 1, n_bytes, stdin) != n_bytes) return std::nullopt;
  return text;
}

template <class Values>
void write(const Values& values) {
  const auto n = static_cast<uint32_t>(values.size());
  std::fwrite(&n, sizeof(n), 1, stdout);
  if (n > 0) std::fwrite(values.data(), sizeof(values[0]), n, stdout);
}

void answer(const Tokenizer& tokenizer) {
  while (const auto text = read_text()) {
    for (const bool add_special : {true, false}) {
      const auto ids = tokenizer.encode(*text, {.add_special = add_special, .parse_special = true});
      write(ids);
      write(tokenizer.decode(ids, true));
      write(tokenizer.decode(ids, false));
    }
  }
}

int run(const std::string& path) {
  try {
    if (path.ends_with(".gguf")) {
      const auto checkpoint = open_gguf(path);
      answer(*load_tokenizer(checkpoint->metadata()));
    } else {
      answer(*load_tokenizer_json(Json::parse(read_file(path, size_t{1} << 30), path), Json()));
    }
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.kind());
  }
  return 0;
}

}  // namespace
}  // namespace millrace

int main(int argc, char** argv) {
  if (argc == 2) return millrace::run(argv[1]);
  fmt::print(stderr, "usage: tokenizer_probe FILE < texts\n");
  return 2;
}
