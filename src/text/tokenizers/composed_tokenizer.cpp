#include "text/tokenizers/composed_tokenizer.h"

#include "base/error.h"
#include "text/unicode.h"

namespace millrace {
namespace {

// What a very long text needed is given back to the system, not kept for the next one.
constexpr size_t kMaxIdleBytes = 8 << 20;

// The end of the chain: pieces become ids.
class ModelSink final : public PieceSink {
 public:
  ModelSink(const TokenModel& model, Scratch& scratch) : model_(model), scratch_(scratch) {}
  void take(TextPiece piece) override { model_.encode(piece.text, scratch_); }

 private:
  const TokenModel& model_;
  Scratch& scratch_;
};

}  // namespace

std::vector<int32_t> ComposedTokenizer::encode(std::string_view text, Options options) const {
  if (text.size() > INT32_MAX) {
    fail(ErrorKind::runtime, "a text of {} bytes cannot be tokenized at once, the most are {}", text.size(),
         INT32_MAX);
  }
  std::unique_ptr<Scratch> scratch = lease();
  scratch->ids.clear();
  const auto add = [&](const std::vector<int32_t>& ids) {
    if (options.add_special) {
      for (const int32_t id : ids) scratch->ids.push(id);
    }
  };
  add(parts_.prefix);
  if (is_valid_utf8(text)) {
    encode_text(text, options, *scratch);
  } else {
    encode_text(repair_utf8(text), options, *scratch);
  }
  add(parts_.suffix);
  std::vector<int32_t> ids(scratch->ids.begin(), scratch->ids.begin() + scratch->ids.size());
  give_back(std::move(scratch));
  return ids;
}

std::optional<Tokenizer::Pair> ComposedTokenizer::encode_pair(std::string_view first,
                                                              std::string_view second) const {
  if (parts_.pair.empty()) return std::nullopt;
  Pair pair;
  for (const PairPart& part : parts_.pair) {
    if (part.kind == PairPart::Kind::token) {
      pair.ids.push_back(part.token);
    } else {
      const bool is_first = part.kind == PairPart::Kind::first_text;
      const std::vector<int32_t> ids = encode(is_first ? first : second, {.add_special = false});
      pair.ids.insert(pair.ids.end(), ids.begin(), ids.end());
    }
    pair.types.resize(pair.ids.size(), part.type);
  }
  return pair;
}

void ComposedTokenizer::encode_text(std::string_view text, Options options, Scratch& scratch) const {
  const AddedTokens::Control control{options.parse_special, options.literal};
  parts_.added.each_part(text, control, [&](AddedTokens::Part part) {
    if (part.id >= 0) return scratch.ids.push(part.id);
    // Offsets mean nothing in normalised text: there, a fragment with literal bytes has no control tokens.
    const auto begin = static_cast<size_t>(part.text.data() - text.data());
    const bool has_control = control.allows(begin, begin + part.text.size());
    encode_fragment({part.text, begin == 0}, has_control, scratch);
  });
}

std::vector<size_t> ComposedTokenizer::control_begins(std::string_view text) const {
  std::vector<size_t> begins;
  parts_.added.add_control_begins(text, begins);
  parts_.added_after.add_control_begins(text, begins);
  std::ranges::sort(begins);
  begins.erase(std::unique(begins.begin(), begins.end()), begins.end());
  return begins;
}

void ComposedTokenizer::encode_fragment(TextPiece fragment, bool has_control, Scratch& scratch) const {
  std::string buffer;
  const std::string_view text = run_normalizers(parts_.normalizers, fragment.text, buffer);
  ModelSink sink(*parts_.model, scratch);
  parts_.added_after.each_part(text, {.is_wanted = has_control, .literal = {}}, [&](AddedTokens::Part part) {
    if (part.id >= 0) return scratch.ids.push(part.id);
    run_splits(parts_.splits, {part.text, fragment.is_first && part.text.data() == text.data()}, sink);
  });
}

bool ComposedTokenizer::is_shown(int32_t id, bool show_special) const {
  if (!parts_.vocabulary->has(id)) return false;
  const TokenKind kind = parts_.vocabulary->kind(id);
  return show_special || (kind != TokenKind::control && kind != TokenKind::unknown);
}

std::string_view ComposedTokenizer::spelling(int32_t id) const {
  const auto other = parts_.decoded_as.find(id);
  return other == parts_.decoded_as.end() ? parts_.vocabulary->piece(id) : std::string_view(other->second);
}

std::string ComposedTokenizer::token_bytes(int32_t id, bool show_special) const {
  if (!is_shown(id, show_special)) return {};
  std::string token(spelling(id));
  for (const auto& step : parts_.decoders) step->decode_one(token);
  return token;
}

std::string ComposedTokenizer::decode(std::span<const int32_t> ids, bool show_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    if (is_shown(id, show_special)) tokens.emplace_back(spelling(id));
  }
  for (const auto& step : parts_.decoders) step->decode(tokens);
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0 && parts_.decoders.empty()) text += ' ';
    text += tokens[i];
  }
  return text;
}

std::string ComposedTokenizer::piece(int32_t id) const {
  return parts_.vocabulary->has(id) ? std::string(parts_.vocabulary->piece(id)) : std::string();
}

std::unique_ptr<Scratch> ComposedTokenizer::lease() const {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Scratch> scratch = std::move(idle_.back());
      idle_.pop_back();
      return scratch;
    }
  }
  return std::make_unique<Scratch>();
}

void ComposedTokenizer::give_back(std::unique_ptr<Scratch> scratch) const {
  if (scratch->n_bytes() > kMaxIdleBytes) return;
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(scratch));
}

}  // namespace millrace
