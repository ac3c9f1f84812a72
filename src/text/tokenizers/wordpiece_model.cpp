#include "text/tokenizers/wordpiece_model.h"

namespace millrace {
namespace {

bool has_more_chars_than(std::string_view text, size_t n) {
  size_t n_chars = 0;
  for (const char byte : text) {
    n_chars += (static_cast<uint8_t>(byte) & 0xc0) != 0x80;
    if (n_chars > n) return true;
  }
  return false;
}

}  // namespace

void WordpieceModel::encode(std::string_view piece, Scratch& scratch) const {
  if (has_more_chars_than(piece, parts_.max_chars)) return scratch.ids.push(parts_.unknown);
  scratch.symbols.clear();
  if (!encode_known(piece, scratch)) return scratch.ids.push(parts_.unknown);
  for (const Scratch::Symbol& symbol : scratch.symbols) scratch.ids.push(symbol.id);
}

bool WordpieceModel::encode_known(std::string_view word, Scratch& scratch) const {
  for (size_t at = 0; at < word.size();) {
    size_t n_longest = 0;
    int32_t longest = -1;
    const ByteTrie& tokens = at == 0 ? parts_.beginnings : parts_.continuations;
    tokens.walk(word, at, [&](size_t n_bytes, int32_t id) {
      n_longest = n_bytes;
      longest = id;
    });
    if (n_longest == 0) return false;
    const size_t end = at + n_longest;
    scratch.symbols.push_back({longest, static_cast<uint32_t>(at), static_cast<uint32_t>(end), -1, -1});
    at = end;
  }
  return true;
}

}  // namespace millrace
