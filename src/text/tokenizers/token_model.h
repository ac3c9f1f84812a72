// The last stage of a tokenizer: one piece of text to ids. The four kinds (BPE, unigram, WordPiece, whole
// words) are behind this interface; what all of them need while they work is in Scratch.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizers/word_cache.h"

namespace millrace {

// Ids in the making: a vector whose room can be filled before it is counted.
class IdBuffer {
 public:
  size_t size() const { return size_; }
  const int32_t* begin() const { return ids_.data(); }
  void clear() { size_ = 0; }
  void push(int32_t id) {
    reserve(1);
    ids_[size_++] = id;
  }
  // Room for `n` more; write them and then call grew().
  int32_t* reserve(size_t n) {
    if (size_ + n >= ids_.size()) ids_.resize(2 * ids_.size() + n + 64);
    return ids_.data() + size_;
  }
  void grew(size_t n) { size_ += n; }
  size_t n_bytes() const { return ids_.capacity() * sizeof(int32_t); }

 private:
  std::vector<int32_t> ids_;
  size_t size_ = 0;
};

// What one call of encode() works with; kept between calls for its capacity and for the words it remembers.
// Used by one thread at a time.
struct Scratch {
  IdBuffer ids;
  WordCache words;

  struct Symbol {
    int32_t id;             // of the model's tokens; -1: a character that is none
    uint32_t begin, end;    // its bytes in the piece
    int32_t before, after;  // neighbours in the list of a long piece; -1: none
  };
  std::vector<Symbol> symbols;
  std::vector<uint64_t> merges;  // of short pieces: one a pair; of long ones: a heap of (rank, symbol)

  struct Step {
    double score;
    int32_t id;
    uint32_t from;
  };
  std::vector<Step> steps;  // Viterbi, one a byte

  // Of what grows with the text.
  size_t n_bytes() const {
    return ids.n_bytes() + symbols.capacity() * sizeof(Symbol) + merges.capacity() * sizeof(uint64_t) +
           steps.capacity() * sizeof(Step);
  }
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  // Appends the ids of `piece`, valid UTF-8 (raw bytes of it for byte-level BPE), to scratch.ids.
  virtual void encode(std::string_view piece, Scratch& scratch) const = 0;
};

}  // namespace millrace
