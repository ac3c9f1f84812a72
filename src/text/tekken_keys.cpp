// tekken.json (mistral-common): special tokens first, then the tokens of a byte-level BPE in the order of
// their ranks. It has no merges: those follow from the ranks.
#include <algorithm>

#include "text/tokenizer_keys.h"
#include "text/tokenizers/base64.h"
#include "text/tokenizers/byte_level.h"
#include "text/tokenizers/gguf_pre_types.h"
#include "text/tokenizers/json_parts.h"
#include "text/tokenizers/vocabulary.h"

namespace millrace {
namespace {

constexpr int64_t kNormal = 1, kControl = 3, kUnused = 5;
// Of tokens times their length squared, which finding the merges takes in the worst case.
constexpr int64_t kMaxWork = int64_t{4} << 30;

// Those of the versions whose files do not list them (up to v7).
constexpr std::string_view kOldSpecial[] = {"<unk>",
                                            "<s>",
                                            "</s>",
                                            "[INST]",
                                            "[/INST]",
                                            "[AVAILABLE_TOOLS]",
                                            "[/AVAILABLE_TOOLS]",
                                            "[TOOL_RESULTS]",
                                            "[/TOOL_RESULTS]",
                                            "[TOOL_CALLS]",
                                            "[IMG]",
                                            "<pad>",
                                            "[IMG_BREAK]",
                                            "[IMG_END]",
                                            "[PREFIX]",
                                            "[MIDDLE]",
                                            "[SUFFIX]",
                                            "[SYSTEM_PROMPT]",
                                            "[/SYSTEM_PROMPT]",
                                            "[TOOL_CONTENT]"};

[[noreturn]] void refuse(std::string_view why) { fail(ErrorKind::bad_model, "tekken.json: {}", why); }

int64_t count_of(const Json& object, std::string_view key, int64_t max) {
  const int64_t n = object.at(key).as_int();
  if (n < 0 || n > max) refuse(fmt::format("{} is {}, expected 0 to {}", key, n, max));
  return n;
}

// Where the token of that rank comes apart: into the two parts that are merged last, by the rule of BPE with
// the tokens of lower ranks. 0 where lower ranks do not make it.
size_t last_merge(const Vocabulary& tokens, int32_t rank) {
  const std::string_view text = tokens.piece(rank);
  std::vector<size_t> begins(text.size() + 1);  // of the parts, and the end
  for (size_t i = 0; i < begins.size(); ++i) begins[i] = i;
  while (begins.size() > 3) {
    int32_t best = rank;
    size_t best_at = 0;
    for (size_t i = 0; i + 2 < begins.size(); ++i) {
      const auto found = tokens.find(text.substr(begins[i], begins[i + 2] - begins[i]));
      if (!found || *found >= best) continue;
      best = *found;
      best_at = i;
    }
    if (best == rank) return 0;
    begins.erase(begins.begin() + static_cast<ptrdiff_t>(best_at) + 1);
  }
  return begins.size() == 3 ? begins[1] : 0;
}

class Reader {
 public:
  Reader(const Json& tekken, int64_t n_vocab) : tekken_(tekken), config_(tekken.at("config")) {
    n_all_ = count_of(config_, "default_vocab_size", kMaxTokenId);
    n_special_ = count_of(config_, "default_num_special_tokens", n_all_);
    n_padded_ = std::max(n_all_, n_vocab);
  }

  std::unique_ptr<TokenizerKeys> keys() {
    const std::string pattern = config_.at("pattern").as_string();
    const PreType* pre = match_pre_type(std::span(&pattern, 1), true, false);
    if (pre == nullptr) refuse("its pattern is not one of a tokenizer that is known");
    keys_->set("model", keys_->keep("gpt2"));
    keys_->set("pre", keys_->keep(pre->name));
    read_special();
    read_tokens();
    write_tokens();
    write_merges();
    write_ids();
    return std::move(keys_);
  }

 private:
  void read_special() {
    for (int64_t i = 0; i < n_special_; ++i) special_.push_back(fmt::format("<SPECIAL_{}>", i));
    const Json* listed = tekken_.find("special_tokens");
    if (listed == nullptr || listed->is_null()) {
      std::ranges::copy(std::span(kOldSpecial).first(std::min(std::size(kOldSpecial), special_.size())),
                        special_.begin());
      return;
    }
    for (const Json& token : listed->as_array()) {
      const int64_t rank = token.at("rank").as_int();
      if (rank < 0 || rank >= n_special_) refuse(fmt::format("a special token has the rank {}", rank));
      special_[static_cast<size_t>(rank)] = token.at("token_str").as_string();
    }
  }

  // The bytes of the tokens by their ranks. More may be listed than are used.
  void read_tokens() {
    int64_t work = 0;
    for (const Json& token : tekken_.at("vocab").as_array()) {
      const auto rank = static_cast<int64_t>(pieces_.size());
      if (rank == n_all_ - n_special_) break;
      if (token.at("rank").as_int() != rank) refuse(fmt::format("token {} has another rank", rank));
      pieces_.push_back(
          keys_->keep(decode_base64(token.at("token_bytes").as_string(), "a token of tekken.json")));
      const auto n = static_cast<int64_t>(pieces_.back().size());
      if (n == 0 || n > 4096 || (work += n * n) > kMaxWork)
        refuse(fmt::format("token {} has {} bytes", rank, n));
    }
    if (pieces_.empty()) refuse("it has no tokens");
  }

  void write_tokens() {
    std::vector<std::string_view> texts;
    std::vector<int64_t> kinds(static_cast<size_t>(n_padded_), kUnused);
    for (const std::string& text : special_) texts.push_back(keys_->keep(text));
    for (const std::string_view piece : pieces_) texts.push_back(keys_->keep(to_byte_level(piece)));
    std::fill_n(kinds.begin(), texts.size(), kNormal);
    std::fill_n(kinds.begin(), special_.size(), kControl);
    for (auto id = std::ssize(texts); id < n_padded_; ++id)
      texts.push_back(keys_->keep(fmt::format("[PAD{}]", id)));
    keys_->set("tokens", std::move(texts));
    keys_->set("token_type", std::move(kinds));
  }

  void write_merges() {
    const Vocabulary tokens(pieces_, std::vector<TokenKind>(pieces_.size(), TokenKind::normal));
    std::vector<std::string_view> merges;
    for (int32_t rank = 0; rank < tokens.size(); ++rank) {
      const size_t at = last_merge(tokens, rank);
      if (at == 0) continue;
      const std::string_view text = tokens.piece(rank);
      merges.push_back(keys_->keep(to_byte_level(text.substr(0, at)) + " " + to_byte_level(text.substr(at))));
    }
    keys_->set("merges", std::move(merges));
  }

  void write_ids() {
    const struct {
      std::string_view text, key;
    } ids[] = {{"<s>", "bos_token_id"},
               {"</s>", "eos_token_id"},
               {"<unk>", "unknown_token_id"},
               {"<pad>", "padding_token_id"}};
    for (const auto& [text, key] : ids) {
      const auto at = std::ranges::find(special_, text);
      if (at != special_.end()) keys_->set(key, int64_t{at - special_.begin()});
    }
    keys_->set("add_bos_token", std::ranges::find(special_, "<s>") != special_.end());
    keys_->set("add_eos_token", false);
  }

  const Json& tekken_;
  const Json& config_;
  int64_t n_all_ = 0, n_special_ = 0, n_padded_ = 0;
  std::vector<std::string> special_;
  std::vector<std::string_view> pieces_;
  std::unique_ptr<TokenizerKeys> keys_ = std::make_unique<TokenizerKeys>();
};

}  // namespace

std::unique_ptr<TokenizerKeys> tekken_keys(const Json& tekken, int64_t n_vocab) {
  return Reader(tekken, n_vocab).keys();
}

}  // namespace millrace
