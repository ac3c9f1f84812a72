// The tokens of a model: id to spelling and back, and what kind each is. The bottom of every tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizers/hash.h"

namespace millrace {

// From byte strings to the ids that were put in for them. Open addressing, at most half full.
class PieceTable {
 public:
  explicit PieceTable(size_t n_expected = 0);
  // Of equal pieces the first one stays. `pieces` is what ids index; it must outlive the table.
  void insert(std::span<const std::string_view> pieces, int32_t id);
  std::optional<int32_t> find(std::span<const std::string_view> pieces, std::string_view piece) const;
  // Brings the place of `hash` into the cache ahead of a find.
  void prefetch(uint64_t hash) const { __builtin_prefetch(&slots_[hash & mask_]); }

 private:
  struct Slot {
    uint32_t tag = 0;
    int32_t id = -1;  // -1: empty
  };
  std::vector<Slot> slots_;
  uint64_t mask_;
  uint64_t seed_;
};

// As tokenizer.ggml.token_type numbers them.
enum class TokenKind : uint8_t { normal = 1, unknown, control, user_defined, unused, byte };

class Vocabulary {
 public:
  // Ids are indices. An empty spelling is a hole: it is never found.
  // The strings must outlive the vocabulary, unless they lie in `arena`.
  Vocabulary(std::vector<std::string_view> pieces, std::vector<TokenKind> kinds,
             std::unique_ptr<std::string> arena = nullptr);

  int32_t size() const { return static_cast<int32_t>(pieces_.size()); }
  bool has(int32_t id) const { return id >= 0 && id < size(); }
  std::span<const std::string_view> pieces() const { return pieces_; }
  std::string_view piece(int32_t id) const { return pieces_[static_cast<size_t>(id)]; }
  TokenKind kind(int32_t id) const { return kinds_[static_cast<size_t>(id)]; }
  std::optional<int32_t> find(std::string_view piece) const { return table_.find(pieces_, piece); }
  // The ids of the tokens <0x00> to <0xFF>; -1 where there is none.
  std::vector<int32_t> byte_tokens() const;

 private:
  std::vector<std::string_view> pieces_;
  std::vector<TokenKind> kinds_;
  std::unique_ptr<std::string> arena_;
  PieceTable table_;
};

// The largest id that a vocabulary may have: holes cost memory that the file does not.
constexpr int64_t kMaxTokenId = (int64_t{1} << 21) - 1;

// The byte that a token spelt "<0x0A>" stands for.
std::optional<uint8_t> byte_of_piece(std::string_view piece);

}  // namespace millrace
