// Tokenizers from tokenizer.json, the format of the Hugging Face library: every part that it can describe is
// made here, and what is not known is refused by name. Its "truncation" and "padding" are settings of a batch
// and not of the tokenizer: they play no part here.
#include <algorithm>
#include <array>
#include <unordered_set>

#include "base/error.h"
#include "text/tokenizers/bpe_symbols.h"
#include "text/tokenizers/composed_tokenizer.h"
#include "text/tokenizers/end_tokens.h"
#include "text/tokenizers/json_parts.h"
#include "text/tokenizers/unigram_model.h"
#include "text/tokenizers/wordpiece_model.h"

namespace millrace {
namespace {

// A token by its content, as tokenizer_config.json writes it: a string, or an object with "content".
std::string content_of(const Json* token) {
  if (token == nullptr) return {};
  if (token->is_object()) token = token->find("content");
  return token != nullptr && token->is_string() ? token->as_string() : std::string();
}

// Collects spellings by id while the parts of the file are read; then it becomes the Vocabulary.
class VocabularyBuilder {
 public:
  void add(std::string_view piece, int64_t id, TokenKind kind) {
    if (id < 0 || id > kMaxTokenId) {
      fail(ErrorKind::bad_model, "the token \"{}\" has the id {}, expected 0 to {}", printable(piece), id,
           kMaxTokenId);
    }
    const auto at = static_cast<size_t>(id);
    if (at >= entries_.size()) entries_.resize(at + 1);
    entries_[at] = {arena_->size(), piece.size(), kind};
    arena_->append(piece);
  }
  int32_t size() const { return static_cast<int32_t>(entries_.size()); }

  std::unique_ptr<Vocabulary> build() {
    std::vector<std::string_view> pieces;
    std::vector<TokenKind> kinds;
    for (const Entry& entry : entries_) {
      pieces.push_back(std::string_view(*arena_).substr(entry.begin, entry.n_bytes));
      kinds.push_back(entry.kind);
    }
    return std::make_unique<Vocabulary>(std::move(pieces), std::move(kinds), std::move(arena_));
  }

 private:
  struct Entry {
    size_t begin = 0, n_bytes = 0;
    TokenKind kind = TokenKind::normal;
  };
  std::vector<Entry> entries_;
  std::unique_ptr<std::string> arena_ = std::make_unique<std::string>();
};

struct AddedEntry {
  AddedToken token;
  bool is_normalized = false;
};

std::vector<AddedEntry> read_added(const Json& file) {
  std::vector<AddedEntry> added;
  const Json* list = file.find("added_tokens");
  if (list == nullptr || list->is_null()) return added;
  for (const Json& json : list->as_array()) {
    AddedEntry entry;
    const int64_t id = json.at("id").as_int();
    entry.token.text = json.at("content").as_string();
    if (id < 0 || id > kMaxTokenId) {
      fail(ErrorKind::bad_model, "the added token \"{}\" has the id {}, expected 0 to {}",
           printable(entry.token.text), id, kMaxTokenId);
    }
    entry.token.id = static_cast<int32_t>(id);
    entry.token.is_control = json_bool(json, "special", false);
    entry.token.takes_left = json_bool(json, "lstrip", false);
    entry.token.takes_right = json_bool(json, "rstrip", false);
    entry.token.is_word = json_bool(json, "single_word", false);
    entry.is_normalized = json_bool(json, "normalized", !entry.token.is_control);
    added.push_back(std::move(entry));
  }
  return added;
}

// What the model part of the file says, before the model is made: the vocabulary must be whole for that.
std::string_view model_type(const Json& model) {
  if (const Json* type = model.find("type")) return type->as_string();
  // Files from before "type": only BPE has merges, only unigram a list of pairs.
  if (model.find("merges") != nullptr) return "BPE";
  return model.at("vocab").is_array()             ? "Unigram"
         : model.find("max_input_chars_per_word") ? "WordPiece"
                                                  : "WordLevel";
}

void read_vocab(const Json& model, VocabularyBuilder& vocabulary) {
  const Json& vocab = model.at("vocab");
  if (vocab.is_array()) {
    int64_t id = 0;
    for (const Json& pair : vocab.as_array()) {
      if (pair.as_array().size() != 2)
        fail(ErrorKind::bad_model, "a token of the vocabulary is not [text, score]");
      vocabulary.add(pair.as_array()[0].as_string(), id++, TokenKind::normal);
    }
    return;
  }
  for (const auto& [piece, id] : vocab.as_object()) vocabulary.add(piece, id.as_int(), TokenKind::normal);
}

std::vector<MergeText> read_merges(const Json& model) {
  std::vector<MergeText> merges;
  for (const Json& merge : model.at("merges").as_array()) {
    if (merge.is_array() && merge.as_array().size() == 2) {
      merges.push_back({merge.as_array()[0].as_string(), merge.as_array()[1].as_string()});
      continue;
    }
    const std::string_view line = merge.as_string();
    if (line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      fail(ErrorKind::bad_model, "the merge \"{}\" is not two tokens with a space between", printable(line));
    }
    merges.push_back({line.substr(0, space), line.substr(space + 1)});
  }
  return merges;
}

std::optional<int32_t> find_unknown(const Json& model, const Vocabulary& vocabulary) {
  const std::string text = json_string(model, "unk_token", "");
  if (text.empty()) return std::nullopt;
  const auto id = vocabulary.find(text);
  if (!id) fail(ErrorKind::bad_model, "the unk_token \"{}\" is not in the vocabulary", printable(text));
  return id;
}

// `is_symbol`: which ids the model's own vocabulary has; added tokens are none of its business.
std::unique_ptr<TokenModel> make_bpe(const Json& model, const Vocabulary& vocabulary,
                                     const IsSymbol& is_symbol, bool is_byte_level) {
  if (const Json* dropout = model.find("dropout");
      dropout && !dropout->is_null() && dropout->as_double() != 0) {
    fail(ErrorKind::bad_model, "the tokenizer has a dropout of {}, which makes its ids random",
         dropout->as_double());
  }
  BpeParts bpe;
  bpe.is_byte_level = is_byte_level;
  bpe.ignores_merges = json_bool(model, "ignore_merges", false);
  bpe.word_prefix = json_string(model, "continuing_subword_prefix", "");
  bpe.word_suffix = json_string(model, "end_of_word_suffix", "");
  bpe.unknown = find_unknown(model, vocabulary);
  bpe.fuses_unknown = json_bool(model, "fuse_unk", false);
  if (json_bool(model, "byte_fallback", false)) {
    bpe.fallback = BpeParts::Fallback::bytes_first;
    bpe.byte_tokens = vocabulary.byte_tokens();
    // Bytes that were only added are not the model's.
    std::ranges::replace_if(
        bpe.byte_tokens, [&](int32_t id) { return !is_symbol(id); }, -1);
  }
  add_symbols(bpe, vocabulary, is_symbol);
  add_merges(bpe, vocabulary, read_merges(model), UnknownMerge::refuse);
  return std::make_unique<BpeModel>(std::move(bpe));
}

std::unique_ptr<TokenModel> make_unigram(const Json& model, const Vocabulary& vocabulary) {
  UnigramModel::Parts unigram;
  const auto& vocab = model.at("vocab").as_array();
  unigram.scores.resize(static_cast<size_t>(vocabulary.size()));
  for (size_t id = 0; id < vocab.size(); ++id) {
    unigram.scores[id] = vocab[id].as_array()[1].as_double();
    const auto token = static_cast<int32_t>(id);
    if (vocabulary.kind(token) == TokenKind::control) continue;  // text never becomes one
    unigram.tokens.emplace_back(vocab[id].as_array()[0].as_string(), token);
  }
  if (const Json* unknown = model.find("unk_id"); unknown != nullptr && !unknown->is_null()) {
    if (unknown->as_int() < 0 || unknown->as_int() >= static_cast<int64_t>(vocab.size())) {
      fail(ErrorKind::bad_model, "unk_id is {}, outside of the {} tokens", unknown->as_int(), vocab.size());
    }
    unigram.unknown = static_cast<int32_t>(unknown->as_int());
  }
  if (json_bool(model, "byte_fallback", false)) unigram.byte_tokens = vocabulary.byte_tokens();
  return std::make_unique<UnigramModel>(std::move(unigram));
}

std::unique_ptr<TokenModel> make_wordpiece(const Json& model, const Vocabulary& vocabulary) {
  const auto unknown = vocabulary.find(json_string(model, "unk_token", "[UNK]"));
  if (!unknown) fail(ErrorKind::bad_model, "the unk_token of the WordPiece model is not in its vocabulary");
  const std::string prefix = json_string(model, "continuing_subword_prefix", "##");
  std::vector<ByteTrie::Entry> beginnings, continuations;
  for (const auto& [piece, id] : model.at("vocab").as_object()) {
    const auto token = static_cast<int32_t>(id.as_int());
    beginnings.emplace_back(piece, token);
    if (piece.starts_with(prefix)) {
      continuations.emplace_back(std::string_view(piece).substr(prefix.size()), token);
    }
  }
  return std::make_unique<WordpieceModel>(WordpieceModel::Parts{
      .beginnings = ByteTrie(std::move(beginnings)),
      .continuations = ByteTrie(std::move(continuations)),
      .unknown = *unknown,
      .max_chars = static_cast<size_t>(json_size(model, "max_input_chars_per_word", 100))});
}

std::unique_ptr<TokenModel> make_model(const Json& model, const Vocabulary& vocabulary,
                                       const IsSymbol& is_symbol, bool is_byte_level) {
  const std::string_view type = model_type(model);
  if (type == "BPE") return make_bpe(model, vocabulary, is_symbol, is_byte_level);
  if (type == "Unigram") return make_unigram(model, vocabulary);
  if (type == "WordPiece") return make_wordpiece(model, vocabulary);
  if (type == "WordLevel") {
    const auto unknown = vocabulary.find(json_string(model, "unk_token", "<unk>"));
    if (!unknown) fail(ErrorKind::bad_model, "the unk_token of the WordLevel model is not in its vocabulary");
    return std::make_unique<WordLevelModel>(vocabulary, *unknown);
  }
  fail(ErrorKind::bad_model,
       "the model of the tokenizer is \"{}\"; BPE, Unigram, WordPiece and WordLevel are supported",
       printable(type));
}

// Added tokens that are looked for in the normalised text are normalised themselves.
void add_tokens(TokenizerParts& parts, std::vector<AddedEntry> added) {
  std::vector<AddedToken> before, after;
  for (AddedEntry& entry : added) {
    if (entry.token.text.empty()) continue;
    if (!entry.is_normalized) {
      before.push_back(std::move(entry.token));
      continue;
    }
    std::string buffer;
    std::string text(run_normalizers(parts.normalizers, entry.token.text, buffer));
    if (text != entry.token.text) parts.decoded_as[entry.token.id] = text;
    entry.token.text = std::move(text);
    after.push_back(std::move(entry.token));
  }
  parts.added = AddedTokens(std::move(before));
  parts.added_after = AddedTokens(std::move(after));
}

// tokenizer_config.json: the special tokens by name. add_bos_token and add_eos_token count where the
// post-processor adds nothing itself, as for the classes that build theirs from these settings.
void apply_config(TokenizerParts& parts, const Json& config) {
  const auto find = [&](std::string_view key) {
    const std::string text = content_of(config.find(key));
    return text.empty() ? std::nullopt : parts.vocabulary->find(text);
  };
  parts.bos = find("bos_token");
  parts.eos = find("eos_token");
  if (!parts.prefix.empty() || !parts.suffix.empty()) return;
  if (parts.bos && json_bool(config, "add_bos_token", false)) parts.prefix.push_back(*parts.bos);
  if (parts.eos && json_bool(config, "add_eos_token", false)) parts.suffix.push_back(*parts.eos);
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer_json(const Json& tokenizer, const Json& config) {
  const Json& model = tokenizer.at("model");
  TokenizerParts parts;
  VocabularyBuilder builder;
  read_vocab(model, builder);
  const int32_t n_model = builder.size();
  std::vector<AddedEntry> added = read_added(tokenizer);
  std::unordered_set<int32_t> only_added;
  for (const AddedEntry& entry : added) {
    if (entry.token.id >= n_model) only_added.insert(entry.token.id);
    const TokenKind kind = entry.token.is_control ? TokenKind::control : TokenKind::user_defined;
    builder.add(entry.token.text, entry.token.id, kind);
  }
  parts.vocabulary = builder.build();

  JsonSplits splits =
      make_splits(tokenizer.find("pre_tokenizer"), tokenizer.find("normalizer"), model_type(model) == "BPE");
  parts.normalizers = make_normalizers(tokenizer.find("normalizer"));
  parts.splits = std::move(splits.steps);
  const auto is_symbol = [&](int32_t id) { return !only_added.contains(id); };
  parts.model = make_model(model, *parts.vocabulary, is_symbol, splits.gives_bytes);
  add_tokens(parts, std::move(added));
  const JsonTemplate frame = make_template(tokenizer.find("post_processor"), *parts.vocabulary);
  parts.prefix = frame.prefix;
  parts.suffix = frame.suffix;
  parts.pair = frame.pair;
  parts.decoders = make_decoders(tokenizer.find("decoder"));
  apply_config(parts, config);
  parts.end_tokens = find_end_tokens(*parts.vocabulary, std::array{parts.eos});
  return std::make_unique<ComposedTokenizer>(std::move(parts));
}

}  // namespace millrace
