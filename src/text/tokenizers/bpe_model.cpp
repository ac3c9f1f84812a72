#include "text/tokenizers/bpe_model.h"

#include <algorithm>
#include <functional>

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
  for (const std::string_view spelling : parts_.spellings) n_longest_ = std::max(n_longest_, spelling.size());
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
    if (whole) return scratch.ids.push(*whole);
  }
  scratch.symbols.clear();
  split_into_symbols(word, scratch);
  if (scratch.symbols.size() <= kShort) {
    merge_short(word, scratch);
  } else {
    merge_long(word, scratch);
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
  Scratch::Symbol symbol{-1, static_cast<uint32_t>(at), static_cast<uint32_t>(at + n_bytes), -1, -1};
  symbol.id = symbol_of(character, at == 0, at + n_bytes == word.size());
  if (symbol.id >= 0 || parts_.fallback == BpeParts::Fallback::bytes_last) {
    scratch.symbols.push_back(symbol);
    return;
  }
  const auto has_token = [this](char byte) { return parts_.byte_tokens[static_cast<uint8_t>(byte)] >= 0; };
  if (parts_.fallback == BpeParts::Fallback::bytes_first && std::ranges::all_of(character, has_token)) {
    for (const char byte : character) {
      symbol.id = parts_.byte_tokens[static_cast<uint8_t>(byte)];
      scratch.symbols.push_back(symbol);
    }
    return;
  }
  add_unknown(symbol, scratch);
}

// Consecutive unknown characters become one where the model says so. `after` marks them until the symbols are
// linked: a known one between them would have none.
void BpeModel::add_unknown(Scratch::Symbol place, Scratch& scratch) const {
  constexpr int32_t kUnknownMark = -2;
  if (!parts_.unknown) return;
  const bool follows_unknown = !scratch.symbols.empty() && scratch.symbols.back().after == kUnknownMark;
  if (follows_unknown && parts_.fuses_unknown) return;
  place.id = *parts_.unknown;
  place.after = kUnknownMark;
  scratch.symbols.push_back(place);
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

MergeTable::Merge BpeModel::find_merge(std::string_view word, const Scratch::Symbol& left,
                                       const Scratch::Symbol& right) const {
  if (parts_.score_ranks.empty()) return parts_.merges.find(left.id, right.id);
  const size_t n_bytes = right.end - left.begin;
  if (n_bytes > n_longest_) return MergeTable::kNone;
  const auto id = parts_.by_spelling.find(parts_.spellings, word.substr(left.begin, n_bytes));
  return id ? MergeTable::merge_of(parts_.score_ranks[static_cast<size_t>(*id)], *id) : MergeTable::kNone;
}

void BpeModel::merge_short(std::string_view word, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& merges = scratch.merges;  // merges[i]: of symbols i and i + 1
  if (symbols.size() < 2) return;
  const auto find = [&](size_t i) { merges[i] = find_merge(word, symbols[i], symbols[i + 1]); };
  merges.resize(symbols.size() - 1);
  for (size_t i = 0; i < merges.size(); ++i) find(i);
  while (!merges.empty()) {
    // By ranks only: of equal ones the leftmost, whatever token it makes.
    const auto best = std::ranges::min_element(merges, {}, MergeTable::rank_of);
    if (*best == MergeTable::kNone) return;
    const auto i = static_cast<size_t>(best - merges.begin());
    symbols[i].id = MergeTable::symbol_of(*best);
    symbols[i].end = symbols[i + 1].end;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(i) + 1);
    merges.erase(best);
    if (i > 0) find(i - 1);
    if (i < merges.size()) find(i);
  }
}

namespace {

// The symbols of a long piece as a linked list: what has joined the one before it is gone.
class SymbolList {
 public:
  explicit SymbolList(std::vector<Scratch::Symbol>& symbols) : symbols_(symbols) {
    const auto n = static_cast<int32_t>(symbols.size());
    for (int32_t i = 0; i < n; ++i) {
      at(i).before = i - 1;
      at(i).after = i + 1 < n ? i + 1 : -1;
    }
  }
  Scratch::Symbol& at(int32_t i) { return symbols_[static_cast<size_t>(i)]; }
  bool has_pair(int32_t left) { return at(left).before != kGone && at(left).after >= 0; }

  void join(int32_t left, int32_t id) {
    Scratch::Symbol& symbol = at(left);
    Scratch::Symbol& right = at(symbol.after);
    symbol.id = id;
    symbol.end = right.end;
    symbol.after = right.after;
    if (right.after >= 0) at(right.after).before = left;
    right.before = kGone;
  }
  void drop_gone() {
    std::erase_if(symbols_, [](const Scratch::Symbol& symbol) { return symbol.before == kGone; });
  }

 private:
  static constexpr int32_t kGone = -2;
  std::vector<Scratch::Symbol>& symbols_;
};

}  // namespace

// A heap of (rank, left symbol). An entry whose pair has changed since is skipped.
void BpeModel::merge_long(std::string_view word, Scratch& scratch) const {
  SymbolList list(scratch.symbols);
  auto& heap = scratch.merges;
  heap.clear();
  const auto find = [&](int32_t left) {
    return find_merge(word, list.at(left), list.at(list.at(left).after));
  };
  const auto key_of = [](MergeTable::Merge merge, int32_t left) {
    return MergeTable::merge_of(MergeTable::rank_of(merge), left);
  };
  const auto push = [&](int32_t left) {
    if (left < 0 || !list.has_pair(left)) return;
    const MergeTable::Merge merge = find(left);
    if (merge == MergeTable::kNone) return;
    heap.push_back(key_of(merge, left));
    std::ranges::push_heap(heap, std::greater<>());
  };
  for (int32_t i = 0; i < static_cast<int32_t>(scratch.symbols.size()); ++i) push(i);
  while (!heap.empty()) {
    std::ranges::pop_heap(heap, std::greater<>());
    const uint64_t key = heap.back();
    heap.pop_back();
    const int32_t left = MergeTable::symbol_of(key);
    if (!list.has_pair(left)) continue;
    const MergeTable::Merge merge = find(left);
    if (merge == MergeTable::kNone || key_of(merge, left) != key) continue;
    list.join(left, MergeTable::symbol_of(merge));
    push(left);
    push(list.at(left).before);
  }
  list.drop_gone();
}

void BpeModel::emit(std::string_view word, Scratch& scratch) const {
  bool after_unknown = false;
  for (const Scratch::Symbol& symbol : scratch.symbols) {
    if (symbol.id >= 0) {
      scratch.ids.push(symbol.id);
    } else {
      emit_bytes(word.substr(symbol.begin, symbol.end - symbol.begin), scratch, after_unknown);
    }
    after_unknown = symbol.id < 0;
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
