// A tokenizer.json from anywhere, used on a text from anywhere. Input: the file, a NUL, the text.
#include <string_view>

#include "text/text_stream.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(input.find('\0'), input.size());
  const std::string_view text = input.substr(std::min(end + 1, input.size()));
  try {
    const auto tokenizer = load_tokenizer_json(Json::parse(input.substr(0, end), "tokenizer.json"), Json());
    for (const bool special : {false, true}) {
      const auto ids = tokenizer->encode(text, {.add_special = special, .parse_special = special});
      tokenizer->decode(ids, special);
      TextStream stream({"stop"});
      for (const int32_t id : ids) stream.push(tokenizer->token_bytes(id, special));
      stream.flush();
    }
  } catch (const Error&) {
  }
  return 0;
}
