// UTF-8, normal forms and text streams on any bytes: what they promise, checked.
#include <string_view>

#include "base/error.h"
#include "text/text_stream.h"
#include "text/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace millrace;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  check(is_valid_utf8(bytes) == is_utf8(bytes), "both tests of UTF-8 agree");
  const std::string text = repair_utf8(bytes);
  check(is_utf8(text), "a repaired text is valid");
  for (const NormalForm form : {NormalForm::nfc, NormalForm::nfd, NormalForm::nfkc, NormalForm::nfkd}) {
    const std::string normal = normalize(text, form);
    check(is_utf8(normal), "a normal form is valid");
    check(normalize(normal, form) == normal, "a normal form stays");
  }
  if (is_surely_nfc(text)) check(normalize(text, NormalForm::nfc) == text, "NFC stays");
  for (size_t at = 0; at < text.size(); at = grapheme_end(text, at)) {
    check((static_cast<uint8_t>(text[at]) & 0xc0) != 0x80, "a cluster begins with a character");
  }

  // The first byte cuts the text, the next ones are stop strings.
  const size_t step = size > 0 ? data[0] % 7 + 1 : 1;
  const std::vector<std::string> stops = {std::string(bytes.substr(0, 2)), "\xc3\xa9x"};
  TextStream whole(stops), cut(stops);
  std::string given;
  for (size_t at = 0; at < size; at += step) given += cut.push(bytes.substr(at, step));
  given += cut.flush();
  std::string expected = whole.push(bytes);
  expected += whole.flush();
  check(given == expected, "any cut gives the same text");
  check(is_utf8(given), "a stream gives valid text");
  return 0;
}
