// A tekken.json from anywhere, used on a text from anywhere. Input: the file, a NUL, the text.
#include <algorithm>

#include "text/tokenizer.h"
#include "text/tokenizer_keys.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), input.size());
  try {
    const auto keys = tekken_keys(Json::parse(input.substr(0, end), "tekken.json"), 0);
    const Metadata metadata = keys->metadata();
    const auto tokenizer = load_tokenizer(metadata);
    const std::string_view text = input.substr(std::min(end + 1, input.size()));
    tokenizer->decode(tokenizer->encode(text, {.add_special = true, .parse_special = true}), true);
  } catch (const Error&) {
  }
  return 0;
}
