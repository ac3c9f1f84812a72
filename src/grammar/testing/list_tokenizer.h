// A tokenizer for tests: a list of texts, each one token. Texts in angle brackets are control tokens.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace millrace {

class ListTokenizer final : public Tokenizer {
 public:
  explicit ListTokenizer(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}
  // Every byte, then `more`.
  static ListTokenizer of_bytes(const std::vector<std::string>& more = {}) {
    std::vector<std::string> pieces;
    for (int byte = 0; byte < 256; ++byte) pieces.emplace_back(1, static_cast<char>(byte));
    pieces.insert(pieces.end(), more.begin(), more.end());
    return ListTokenizer(std::move(pieces));
  }

  // The longest token first.
  std::vector<int32_t> encode(std::string_view text, Options) const override {
    std::vector<int32_t> ids;
    while (!text.empty()) {
      int32_t best = -1;
      for (int32_t id = 0; id < n_vocab(); ++id) {
        const std::string bytes = token_bytes(id, false);
        if (bytes.empty() || !text.starts_with(bytes)) continue;
        if (best < 0 || bytes.size() > token_bytes(best, false).size()) best = id;
      }
      ids.push_back(best);
      text.remove_prefix(token_bytes(best, false).size());
    }
    return ids;
  }
  std::vector<size_t> control_begins(std::string_view) const override { return {}; }
  std::optional<Pair> encode_pair(std::string_view, std::string_view) const override { return std::nullopt; }
  std::string token_bytes(int32_t id, bool show_special) const override {
    const std::string text = piece(id);
    return is_control(text) && !show_special ? std::string() : text;
  }
  std::string decode(std::span<const int32_t> ids, bool show_special) const override {
    std::string out;
    for (const int32_t id : ids) out += token_bytes(id, show_special);
    return out;
  }
  std::string piece(int32_t id) const override {
    return id >= 0 && id < n_vocab() ? pieces_[static_cast<size_t>(id)] : std::string();
  }
  int32_t n_vocab() const override { return static_cast<int32_t>(pieces_.size()); }
  std::optional<int32_t> find_piece(std::string_view text) const override {
    const auto at = std::ranges::find(pieces_, text);
    if (at == pieces_.end()) return std::nullopt;
    return static_cast<int32_t>(at - pieces_.begin());
  }
  std::optional<int32_t> bos() const override { return find_piece("<s>"); }
  std::optional<int32_t> eos() const override { return find_piece("</s>"); }
  std::span<const int32_t> end_tokens() const override { return {}; }

 private:
  static bool is_control(const std::string& text) {
    return text.size() > 2 && text.front() == '<' && text.back() == '>';
  }
  std::vector<std::string> pieces_;
};

}  // namespace millrace
