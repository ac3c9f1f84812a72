#include "text/tokenizers/vocabulary.h"

#include <bit>
#include <random>

#include "base/error.h"

namespace millrace {

uint64_t hash_seed() {
  static const uint64_t seed = [] {
    std::random_device device;
    return (uint64_t{device()} << 32 | device()) | 1;
  }();
  return seed;
}

PieceTable::PieceTable(size_t n_expected)
    : slots_(std::bit_ceil(std::max<size_t>(2 * n_expected, 16))),
      mask_(slots_.size() - 1),
      seed_(hash_seed()) {}

void PieceTable::insert(std::span<const std::string_view> pieces, int32_t id) {
  const std::string_view piece = pieces[static_cast<size_t>(id)];
  const uint64_t hash = hash_bytes(piece, seed_);
  const auto tag = static_cast<uint32_t>(hash >> 32);
  uint64_t at = hash & mask_;
  for (; slots_[at].id >= 0; at = (at + 1) & mask_) {
    if (slots_[at].tag == tag && pieces[static_cast<size_t>(slots_[at].id)] == piece) return;
  }
  slots_[at] = {tag, id};
}

std::optional<int32_t> PieceTable::find(std::span<const std::string_view> pieces,
                                        std::string_view piece) const {
  const uint64_t hash = hash_bytes(piece, seed_);
  const auto tag = static_cast<uint32_t>(hash >> 32);
  for (uint64_t at = hash & mask_; slots_[at].id >= 0; at = (at + 1) & mask_) {
    if (slots_[at].tag == tag && pieces[static_cast<size_t>(slots_[at].id)] == piece) return slots_[at].id;
  }
  return std::nullopt;
}

Vocabulary::Vocabulary(std::vector<std::string_view> pieces, std::vector<TokenKind> kinds,
                       std::unique_ptr<std::string> arena)
    : pieces_(std::move(pieces)), kinds_(std::move(kinds)), arena_(std::move(arena)), table_(pieces_.size()) {
  check(pieces_.size() == kinds_.size(), "a kind for every piece");
  for (int32_t id = 0; id < size(); ++id) {
    if (!piece(id).empty()) table_.insert(pieces_, id);
  }
}

std::vector<int32_t> Vocabulary::byte_tokens() const {
  std::vector<int32_t> ids(256, -1);
  for (int byte = 0; byte < 256; ++byte) {
    ids[static_cast<size_t>(byte)] = find(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  }
  return ids;
}

std::optional<uint8_t> byte_of_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return std::nullopt;
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  const int high = digit(piece[3]), low = digit(piece[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<uint8_t>(high << 4 | low);
}

}  // namespace millrace
