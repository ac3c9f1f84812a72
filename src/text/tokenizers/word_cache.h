// Short pieces of text and the ids they had, so that a word is taken apart once and then remembered. A fixed
// table: a newer word takes the place of an older one.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "text/tokenizers/hash.h"

namespace millrace {

class WordCache {
 public:
  static constexpr size_t kRoom = 122;     // bytes of a word and of its ids
  static constexpr size_t kMaxBytes = 96;  // of a word

  // Two cache lines a word; most words are in the first one whole.
  struct alignas(64) Word {
    uint32_t tag = 0;
    uint8_t n_bytes = 0;  // 0: nothing here
    uint8_t n_ids = 0;
    char room[kRoom] = {};  // the bytes, then the ids

    const char* ids() const { return room + n_bytes; }
  };
  static_assert(sizeof(Word) == 128);

  WordCache() : words_(size_t{1} << kBits), seed_(hash_seed()) {}

  // The place where `word` (1 to kMaxBytes bytes) is or may be put.
  Word& place_of(std::string_view word, uint32_t& tag) {
    const uint64_t hash = hash_bytes(word, seed_);
    tag = static_cast<uint32_t>(hash >> 32);
    return words_[hash & ((1u << kBits) - 1)];
  }
  static bool holds(const Word& place, uint32_t tag, std::string_view word) {
    return place.tag == tag && place.n_bytes == word.size() &&
           std::memcmp(place.room, word.data(), word.size()) == 0;
  }
  // Nothing where there is no room for so many ids.
  static void put(Word& place, uint32_t tag, std::string_view word, const int32_t* ids, size_t n_ids) {
    if (word.size() + n_ids * sizeof(int32_t) > kRoom) return;
    place.tag = tag;
    place.n_bytes = static_cast<uint8_t>(word.size());
    place.n_ids = static_cast<uint8_t>(n_ids);
    std::memcpy(place.room, word.data(), word.size());
    if (n_ids > 0) std::memcpy(place.room + word.size(), ids, n_ids * sizeof(int32_t));
  }

 private:
  static constexpr int kBits = 15;  // 4 MiB
  std::vector<Word> words_;
  uint64_t seed_;
};

}  // namespace millrace
