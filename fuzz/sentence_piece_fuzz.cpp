// A SentencePiece tokenizer.model from anywhere, used on a text from anywhere. Input: the length of the text
// in one byte, the text, the file.
#include <algorithm>

#include "text/tokenizer.h"
#include "text/tokenizer_keys.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string_view text = input.substr(0, data[0]);
  try {
    const auto keys = sentence_piece_keys(input.substr(text.size()), Json(), 0);
    const Metadata metadata = keys->metadata();
    const auto tokenizer = load_tokenizer(metadata);
    tokenizer->decode(tokenizer->encode(text, {.add_special = true, .parse_special = true}), true);
  } catch (const Error&) {
  }
  return 0;
}
