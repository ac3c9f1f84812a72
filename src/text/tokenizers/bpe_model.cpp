#include "text/tokenizers/bpe_model.h"

#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"

namespace millrace {
namespace {

constexpr std::string_view kSpaceMark = "\xe2\x96\x81";  // U+2581, the space of SentencePiece
// Up to so many symbols the pairs are searched one by one: quicker than a heap, and bounded.
constexpr size_t kShort = 64;

// One of kNClasses.
struct Class {
  size_t index;
  size_t n_bytes;
};
Class class_at(std::string_view text, size_t at) {
  const auto byte = static_cast<uint8_t>(text[at]);
  if (byte < 0x80) return {byte, 1};
  if (text.substr(at).starts_with(kSpaceMark)) return {128, kSpaceMark.size()};
  return {129, static_cast<size_t>(next_utf8(text, at).n_bytes)};
}

}  // namespace

BpeModel::BpeModel(BpeParts parts) : parts_(std::move(parts)) {
  for (int byte = 0; byte < 256; ++byte) {
    const char spelling = static_cast<char>(byte);
    const bool is_symbol = parts_.is_byte_level || byte < 0x80;
    ascii_[static_cast<size_t>(byte)] =
        is_symbol ? parts_.by_spelling.find(parts_.spellings, {&spelling, 1}).value_or(-1) : -1;
  }
  if (!parts_.is_byte_level) find_cuts();
}

void BpeModel::find_cuts() {
  if (parts_.ignores_merges || !parts_.word_prefix.empty() || !parts_.word_suffix.empty()) return;
  is_joined_.assign(kNClasses * kNClasses, 0);
  const auto join = [this](size_t left, size_t right) { is_joined_[left * kNClasses + right] = 1; };
  for (const std::string_view spelling : parts_.spellings) {
    if (spelling.empty()) continue;
    Class left = class_at(spelling, 0);
    for (size_t at = left.n_bytes; at < spelling.size(); at += left.n_bytes) {
      const Class right = class_at(spelling, at);
      join(left.index, right.index);
      left = right;
    }
  }
  // Neighbouring unknown characters may become one token; where unknown characters are dropped, their
  // neighbours become neighbours.
  const bool drops_unknown = !parts_.unknown && parts_.fallback != BpeParts::Fallback::bytes_last;
  const auto is_unknown = [this](size_t index) { return index == 129 || (index < 128 && ascii_[index] < 0); };
  for (size_t left = 0; left < kNClasses; ++left) {
    for (size_t right = 0; right < kNClasses; ++right) {
      const bool is_either = is_unknown(left) || is_unknown(right);
      if ((is_unknown(left) && is_unknown(right)) || (drops_unknown && is_either)) join(left, right);
    }
  }
}

size_t BpeModel::next_cut(std::string_view piece, size_t from) const {
  Class left = class_at(piece, from);
  for (from += left.n_bytes; from < piece.size(); from += left.n_bytes) {
    const Class right = class_at(piece, from);
    if (is_joined_[left.index * kNClasses + right.index] == 0) return from;
    left = right;
  }
  return piece.size();
}

void BpeModel::encode(std::string_view piece, Scratch& scratch) const {
  if (is_joined_.empty()) return encode_word(piece, scratch);
  for (size_t at = 0; at < piece.size();) {
    const size_t end = next_cut(piece, at);
    encode_word(piece.substr(at, end - at), scratch);
    at = end;
  }
}

void BpeModel::encode_word(std::string_view word, Scratch& scratch) const {
  if (word.size() > WordCache::kMaxBytes || word.empty()) return merge_word(word, scratch);
  uint32_t tag;
  WordCache::Word& place = scratch.words.place_of(word, tag);
  if (WordCache::holds(place, tag, word)) {
    std::memcpy(scratch.ids.reserve(place.n_ids), place.ids(), place.n_ids * sizeof(int32_t));
    scratch.ids.grew(place.n_ids);
    return;
  }
  const size_t n_before = scratch.ids.size();
  merge_word(word, scratch);
  WordCache::put(place, tag, word, scratch.ids.begin() + n_before, scratch.ids.size() - n_before);
}

void BpeModel::merge_word(std::string_view word, Scratch& scratch) const {
  if (parts_.ignores_merges) {
    const auto whole = parts_.by_spelling.find(parts_.spellings, word);
    if (whole && *whole < parts_.n_vocab) return scratch.ids.push(*whole);
  }
  scratch.symbols.clear();
  split_into_symbols(word, scratch);
  if (scratch.symbols.size() <= kShort) {
    merge_short(scratch);
  } else {
    merge_long(scratch);
  }
  emit(word, scratch);
}

void BpeModel::split_into_symbols(std::string_view word, Scratch& scratch) const {
  for (size_t at = 0; at < word.size();) {
    const auto n_bytes = static_cast<size_t>(parts_.is_byte_level ? 1 : next_utf8(word, at).n_bytes);
    add_character(word, at, n_bytes, scratch);
    at += n_bytes;
  }
}

void BpeModel::add_character(std::string_view word, size_t at, size_t n_bytes, Scratch& scratch) const {
  const std::string_view character = word.substr(at, n_bytes);
  const auto begin = static_cast<uint32_t>(at);
  const int32_t symbol = symbol_of(character, at == 0, at + n_bytes == word.size());
  if (symbol >= 0 || parts_.fallback == BpeParts::Fallback::bytes_last) {
    scratch.symbols.push_back({symbol, begin, -1, -1});
    return;
  }
  const auto has_token = [this](char byte) { return parts_.byte_tokens[static_cast<uint8_t>(byte)] >= 0; };
  if (parts_.fallback == BpeParts::Fallback::bytes_first && std::ranges::all_of(character, has_token)) {
    for (const char byte : character) {
      scratch.symbols.push_back({parts_.byte_tokens[static_cast<uint8_t>(byte)], begin, -1, -1});
    }
    return;
  }
  add_unknown(at, scratch);
}

// Consecutive unknown characters become one where the model says so. They are told by their place: a known
// symbol between them would have pushed its own.
void BpeModel::add_unknown(size_t at, Scratch& scratch) const {
  if (!parts_.unknown) return;
  const bool follows_unknown = !scratch.symbols.empty() && scratch.symbols.back().after == -2;
  if (follows_unknown && parts_.fuses_unknown) return;
  scratch.symbols.push_back({*parts_.unknown, static_cast<uint32_t>(at), -1, -2});
}

int32_t BpeModel::symbol_of(std::string_view character, bool is_first, bool is_last) const {
  const bool is_plain = (is_first || parts_.word_prefix.empty()) && (!is_last || parts_.word_suffix.empty());
  if (is_plain) {
    if (character.size() == 1) return ascii_[static_cast<uint8_t>(character[0])];
    return parts_.by_spelling.find(parts_.spellings, character).value_or(-1);
  }
  std::string spelling;
  if (!is_first) spelling += parts_.word_prefix;
  spelling += character;
  if (is_last) spelling += parts_.word_suffix;
  return parts_.by_spelling.find(parts_.spellings, spelling).value_or(-1);
}

void BpeModel::merge_short(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& merges = scratch.merges;  // merges[i]: of symbols i and i + 1
  size_t n = symbols.size();
  if (n < 2) return;
  merges.resize(n - 1);
  for (size_t i = 0; i + 1 < n; ++i) merges[i] = parts_.merges.find(symbols[i].id, symbols[i + 1].id);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      // Ranks only: of equal ranks the leftmost, whatever symbol it makes.
      if (MergeTable::rank_of(merges[i]) < MergeTable::rank_of(merges[best])) best = i;
    }
    if (merges[best] == MergeTable::kNone) break;
    symbols[best].id = MergeTable::symbol_of(merges[best]);
    std::copy(symbols.begin() + static_cast<ptrdiff_t>(best) + 2, symbols.begin() + static_cast<ptrdiff_t>(n),
              symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
    std::copy(merges.begin() + static_cast<ptrdiff_t>(best) + 1,
              merges.begin() + static_cast<ptrdiff_t>(n) - 1, merges.begin() + static_cast<ptrdiff_t>(best));
    --n;
    if (best > 0) merges[best - 1] = parts_.merges.find(symbols[best - 1].id, symbols[best].id);
    if (best + 1 < n) merges[best] = parts_.merges.find(symbols[best].id, symbols[best + 1].id);
  }
  symbols.resize(n);
}

// A linked list of symbols and a heap of (rank, left symbol). An entry whose pair has changed since is
// skipped.
void BpeModel::merge_long(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.merges;
  heap.clear();
  const auto n = static_cast<int32_t>(symbols.size());
  const auto entry = [&](int32_t left) {
    const Scratch::Symbol& symbol = symbols[static_cast<size_t>(left)];
    const auto merge = parts_.merges.find(symbol.id, symbols[static_cast<size_t>(symbol.after)].id);
    return merge == MergeTable::kNone ? merge : merge >> 32 << 32 | static_cast<uint32_t>(left);
  };
  const auto push = [&](int32_t left) {
    const uint64_t key = entry(left);
    if (key == MergeTable::kNone) return;
    heap.push_back(key);
    std::ranges::push_heap(heap, std::greater<>());
  };
  for (int32_t i = 0; i < n; ++i) {
    symbols[static_cast<size_t>(i)].before = i - 1;
    symbols[static_cast<size_t>(i)].after = i + 1 < n ? i + 1 : -1;
  }
  for (int32_t i = 0; i + 1 < n; ++i) {
    const uint64_t key = entry(i);
    if (key != MergeTable::kNone) heap.push_back(key);
  }
  std::ranges::make_heap(heap, std::greater<>());
  constexpr int32_t kGone = -2;
  while (!heap.empty()) {
    std::ranges::pop_heap(heap, std::greater<>());
    const uint64_t key = heap.back();
    heap.pop_back();
    const auto left = static_cast<int32_t>(key);
    Scratch::Symbol& symbol = symbols[static_cast<size_t>(left)];
    if (symbol.before == kGone || symbol.after < 0 || entry(left) != key) continue;
    Scratch::Symbol& right = symbols[static_cast<size_t>(symbol.after)];
    symbol.id = MergeTable::symbol_of(parts_.merges.find(symbol.id, right.id));
    symbol.after = right.after;
    right.before = kGone;
    if (symbol.after >= 0) {
      symbols[static_cast<size_t>(symbol.after)].before = left;
      push(left);
    }
    if (symbol.before >= 0) push(symbol.before);
  }
  std::erase_if(symbols, [](const Scratch::Symbol& symbol) { return symbol.before == kGone; });
}

void BpeModel::emit(std::string_view word, Scratch& scratch) const {
  const auto& symbols = scratch.symbols;
  for (size_t i = 0; i < symbols.size(); ++i) {
    const int32_t id = symbols[i].id;
    if (id >= 0 && id < parts_.n_vocab) {
      scratch.ids.push(id);
      continue;
    }
    const size_t end = i + 1 < symbols.size() ? symbols[i + 1].at : word.size();
    const bool after_unknown = i > 0 && (symbols[i - 1].id < 0 || symbols[i - 1].id >= parts_.n_vocab);
    emit_bytes(word.substr(symbols[i].at, end - symbols[i].at), scratch, after_unknown);
  }
}

void BpeModel::emit_bytes(std::string_view bytes, Scratch& scratch, bool after_unknown) const {
  const auto has_token = [this](char byte) { return parts_.byte_tokens[static_cast<uint8_t>(byte)] >= 0; };
  if (!parts_.byte_tokens.empty() && std::ranges::all_of(bytes, has_token)) {
    for (const char byte : bytes) scratch.ids.push(parts_.byte_tokens[static_cast<uint8_t>(byte)]);
  } else if (parts_.unknown && !(after_unknown && parts_.fuses_unknown)) {
    scratch.ids.push(*parts_.unknown);
  }
}

}  // namespace millrace
