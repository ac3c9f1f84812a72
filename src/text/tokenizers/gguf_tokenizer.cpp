// Tokenizers from the tokenizer.ggml.* keys of a GGUF file: one function for each value of
// tokenizer.ggml.model.
#include <algorithm>
#include <span>

#include "base/error.h"
#include "base/log.h"
#include "text/tokenizers/bpe_symbols.h"
#include "text/tokenizers/composed_tokenizer.h"
#include "text/tokenizers/end_tokens.h"
#include "text/tokenizers/gguf_pre_types.h"
#include "text/tokenizers/split_steps.h"
#include "text/tokenizers/unigram_model.h"
#include "text/tokenizers/wordpiece_model.h"

namespace millrace {
namespace {

constexpr std::string_view kSpaceMark = "\xe2\x96\x81";
constexpr const char* kTakesLeft = "tokenizer.ggml.takes_left_token_ids";
constexpr const char* kTokens = "tokenizer.ggml.tokens";

// An array without copying it; `key` must be there.
template <class T>
const std::vector<T>& array_of(const Metadata& metadata, std::string_view key) {
  static const std::vector<T> empty;
  const MetaValue* value = metadata.find(key);
  if (value != nullptr) {
    if (const auto* array = std::get_if<std::vector<T>>(value)) return *array;
  }
  check(metadata.need<std::vector<T>>(key).empty(), "only an empty array fits every type");
  return empty;
}

std::vector<TokenKind> kinds_of(const Metadata& metadata, size_t n_tokens) {
  std::vector<TokenKind> kinds(n_tokens, TokenKind::normal);
  if (metadata.find("tokenizer.ggml.token_type") == nullptr) return kinds;
  const auto& types = array_of<int64_t>(metadata, "tokenizer.ggml.token_type");
  if (types.size() < n_tokens) {
    fail(ErrorKind::bad_model, "tokenizer.ggml.token_type has {} values for {} tokens", types.size(),
         n_tokens);
  }
  for (size_t i = 0; i < n_tokens; ++i) {
    // 0 ("undefined") and what is not known are tokens like others.
    if (types[i] >= 1 && types[i] <= 6) kinds[i] = static_cast<TokenKind>(types[i]);
  }
  return kinds;
}

std::unique_ptr<Vocabulary> read_vocabulary(const Metadata& metadata) {
  const auto& pieces = array_of<std::string_view>(metadata, kTokens);
  if (pieces.empty() || pieces.size() > static_cast<size_t>(kMaxTokenId) + 1) {
    fail(ErrorKind::bad_model, "{} has {} tokens, expected 1 to {}", kTokens, pieces.size(), kMaxTokenId + 1);
  }
  return std::make_unique<Vocabulary>(pieces, kinds_of(metadata, pieces.size()));
}

std::vector<double> read_scores(const Metadata& metadata, const Vocabulary& vocabulary) {
  auto scores = metadata.need<std::vector<double>>("tokenizer.ggml.scores");
  if (scores.size() < static_cast<size_t>(vocabulary.size())) {
    fail(ErrorKind::bad_model, "tokenizer.ggml.scores has {} values for {} tokens", scores.size(),
         vocabulary.size());
  }
  scores.resize(static_cast<size_t>(vocabulary.size()));
  return scores;
}

// The id that a key names. -1, also as an unsigned number, means that there is none.
std::optional<int32_t> token_id(const Metadata& metadata, const Vocabulary& vocabulary, std::string_view name,
                                std::optional<int32_t> otherwise = std::nullopt) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  const auto id = metadata.get<int64_t>(key);
  if (!id) return otherwise && vocabulary.has(*otherwise) ? otherwise : std::nullopt;
  if (*id == -1 || *id == UINT32_MAX) return std::nullopt;
  if (*id < 0 || *id >= vocabulary.size()) {
    fail(ErrorKind::bad_model, "{} is {}, outside of the {} tokens of the vocabulary", key, *id,
         vocabulary.size());
  }
  return static_cast<int32_t>(*id);
}

// Adds `id` to `ids` where the file asks for it, or where it says nothing and `otherwise` is true.
void add_if(const Metadata& metadata, std::string_view key, bool otherwise, std::optional<int32_t> id,
            std::vector<int32_t>& ids) {
  const auto wanted = metadata.get<bool>(key);
  if (!wanted.value_or(otherwise)) return;
  if (id) return ids.push_back(*id);
  if (wanted) fail(ErrorKind::bad_model, "{} is true, but the file names no such token", key);
}

bool is_phi3(const Metadata& metadata) {
  std::string name(metadata.get_or<std::string_view>("general.name", {}));
  std::ranges::transform(name, name.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return name.find("phi-3") != std::string::npos || name.find("phi3") != std::string::npos;
}

AddedTokens added_tokens(const Metadata& metadata, const Vocabulary& vocabulary) {
  // Phi-3 drops white space after its control tokens; GGUF has no place to say so.
  const bool takes_right = is_phi3(metadata);
  // What `convert` writes of tokenizers whose mask takes the space before it.
  std::vector<int64_t> take_left;
  if (metadata.find(kTakesLeft) != nullptr) take_left = array_of<int64_t>(metadata, kTakesLeft);
  std::vector<AddedToken> tokens;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const TokenKind kind = vocabulary.kind(id);
    const bool is_control = kind == TokenKind::control || kind == TokenKind::unknown;
    if ((!is_control && kind != TokenKind::user_defined) || vocabulary.piece(id).empty()) continue;
    AddedToken token{.id = id, .text = std::string(vocabulary.piece(id)), .is_control = is_control};
    token.takes_left = std::ranges::find(take_left, id) != take_left.end();
    token.takes_right =
        takes_right && token.text != "<unk>" && token.text != "<s>" && token.text != "<|endoftext|>";
    tokens.push_back(std::move(token));
  }
  return AddedTokens(std::move(tokens));
}

IsSymbol text_tokens(const Vocabulary& vocabulary) {
  return [&vocabulary](int32_t id) {
    const TokenKind kind = vocabulary.kind(id);
    return kind == TokenKind::normal || kind == TokenKind::user_defined || kind == TokenKind::unused;
  };
}

// What all kinds share: the vocabulary, its added tokens, the ids that the file names.
TokenizerParts common_parts(const Metadata& metadata, std::optional<int32_t> bos,
                            std::optional<int32_t> eos) {
  TokenizerParts parts;
  parts.vocabulary = read_vocabulary(metadata);
  const Vocabulary& vocabulary = *parts.vocabulary;
  parts.added = added_tokens(metadata, vocabulary);
  parts.bos = token_id(metadata, vocabulary, "bos", bos);
  parts.eos = token_id(metadata, vocabulary, "eos", eos);
  std::vector<std::optional<int32_t>> ends = {parts.eos, token_id(metadata, vocabulary, "eot"),
                                              token_id(metadata, vocabulary, "eom")};
  if (metadata.find("tokenizer.ggml.eos_token_ids") != nullptr) {
    for (const int64_t id : array_of<int64_t>(metadata, "tokenizer.ggml.eos_token_ids")) {
      if (id >= 0 && id < vocabulary.size()) ends.emplace_back(static_cast<int32_t>(id));
    }
  }
  parts.end_tokens = find_end_tokens(vocabulary, ends);
  return parts;
}

std::vector<MergeText> read_merges(const Metadata& metadata) {
  const auto& lines = array_of<std::string_view>(metadata, "tokenizer.ggml.merges");
  std::vector<MergeText> merges;
  merges.reserve(lines.size());
  for (const std::string_view line : lines) {
    const size_t space = line.find(' ', 1);
    const bool is_pair = space != std::string_view::npos;
    merges.push_back(is_pair ? MergeText{line.substr(0, space), line.substr(space + 1)} : MergeText{});
  }
  return merges;
}

const PreType& read_pre_type(const Metadata& metadata) {
  const auto name = metadata.get<std::string_view>("tokenizer.ggml.pre");
  if (!name)
    log_warning("the file has no tokenizer.ggml.pre: \"default\" is used, which may give other tokens");
  return find_pre_type(name.value_or("default"));
}

std::unique_ptr<Tokenizer> load_gpt2(const Metadata& metadata) {
  const PreType& pre = read_pre_type(metadata);
  TokenizerParts parts = common_parts(metadata, std::nullopt, std::nullopt);
  const Vocabulary& vocabulary = *parts.vocabulary;
  if (pre.is_nfc) parts.normalizers.push_back(normalizers::unicode_form(NormalForm::nfc));
  if (metadata.get_or<bool>("tokenizer.ggml.add_space_prefix", false)) {
    parts.splits.push_back(splits::space_before());
  }
  for (const char* pattern : pre.patterns) {
    if (pattern != nullptr) parts.splits.push_back(make_pattern_split(pattern));
  }
  BpeParts bpe;
  bpe.is_byte_level = true;
  bpe.ignores_merges = pre.ignores_merges;
  add_symbols(bpe, vocabulary, text_tokens(vocabulary));
  add_merges(bpe, vocabulary, read_merges(metadata), UnknownMerge::skip);
  parts.model = std::make_unique<BpeModel>(std::move(bpe));
  parts.decoders.push_back(decoders::byte_level());
  add_if(metadata, "tokenizer.ggml.add_bos_token", pre.adds_bos, parts.bos, parts.prefix);
  add_if(metadata, "tokenizer.ggml.add_eos_token", false, parts.eos, parts.suffix);
  return std::make_unique<ComposedTokenizer>(std::move(parts));
}

std::shared_ptr<const PrecompiledCharsmap> read_charsmap(const Metadata& metadata) {
  constexpr const char* kKey = "tokenizer.ggml.precompiled_charsmap";
  if (metadata.find(kKey) == nullptr) return nullptr;
  std::string blob;
  for (const int64_t byte : array_of<int64_t>(metadata, kKey)) blob += static_cast<char>(byte);
  return blob.empty() ? nullptr : std::make_shared<PrecompiledCharsmap>(blob);
}

// User-defined tokens, which the charsmap must not change.
ByteTrie kept_tokens(const Vocabulary& vocabulary) {
  std::vector<ByteTrie::Entry> kept;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (vocabulary.kind(id) == TokenKind::user_defined && is_valid_utf8(vocabulary.piece(id))) {
      kept.emplace_back(vocabulary.piece(id), id);
    }
  }
  return ByteTrie(std::move(kept));
}

normalizers::Step sentence_piece_normalizer(const Metadata& metadata, const Vocabulary& vocabulary) {
  normalizers::SentencePiece options;
  options.charsmap = read_charsmap(metadata);
  if (options.charsmap != nullptr) options.kept = kept_tokens(vocabulary);
  options.merges_spaces = metadata.get_or<bool>("tokenizer.ggml.remove_extra_whitespaces", false);
  options.prepends_space = metadata.get_or<bool>("tokenizer.ggml.add_space_prefix", true);
  return normalizers::sentence_piece(std::move(options));
}

DecoderSteps sentence_piece_decoders(const Metadata& metadata) {
  DecoderSteps steps;
  steps.push_back(decoders::replace(std::string(kSpaceMark), " "));
  steps.push_back(decoders::byte_fallback());
  steps.push_back(decoders::fuse());
  if (metadata.get_or<bool>("tokenizer.ggml.add_space_prefix", true)) {
    steps.push_back(decoders::strip(" ", 1, 0));
  }
  return steps;
}

std::unique_ptr<Tokenizer> load_sentence_piece_bpe(const Metadata& metadata) {
  TokenizerParts parts = common_parts(metadata, 1, 2);
  const Vocabulary& vocabulary = *parts.vocabulary;
  parts.normalizers.push_back(sentence_piece_normalizer(metadata, vocabulary));
  BpeParts bpe;
  bpe.fallback = BpeParts::Fallback::bytes_last;
  bpe.byte_tokens = vocabulary.byte_tokens();
  bpe.unknown = token_id(metadata, vocabulary, "unknown", 0);
  bpe.fuses_unknown = true;
  add_symbols(bpe, vocabulary, text_tokens(vocabulary));
  add_scores(bpe, read_scores(metadata, vocabulary));
  parts.model = std::make_unique<BpeModel>(std::move(bpe));
  parts.decoders = sentence_piece_decoders(metadata);
  add_if(metadata, "tokenizer.ggml.add_bos_token", true, parts.bos, parts.prefix);
  add_if(metadata, "tokenizer.ggml.add_eos_token", false, parts.eos, parts.suffix);
  return std::make_unique<ComposedTokenizer>(std::move(parts));
}

std::unique_ptr<Tokenizer> load_unigram(const Metadata& metadata) {
  TokenizerParts parts = common_parts(metadata, std::nullopt, 1);
  const Vocabulary& vocabulary = *parts.vocabulary;
  parts.normalizers.push_back(sentence_piece_normalizer(metadata, vocabulary));
  UnigramModel::Parts unigram;
  unigram.scores = read_scores(metadata, vocabulary);
  unigram.unknown = token_id(metadata, vocabulary, "unknown", 2);
  const IsSymbol is_symbol = text_tokens(vocabulary);
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!is_symbol(id)) continue;
    unigram.tokens.emplace_back(vocabulary.piece(id), id);
    if (vocabulary.kind(id) == TokenKind::user_defined) unigram.scores[static_cast<size_t>(id)] = 0;
  }
  parts.model = std::make_unique<UnigramModel>(std::move(unigram));
  parts.decoders = sentence_piece_decoders(metadata);
  add_if(metadata, "tokenizer.ggml.add_bos_token", false, parts.bos, parts.prefix);
  add_if(metadata, "tokenizer.ggml.add_eos_token", true, parts.eos, parts.suffix);
  if (!parts.prefix.empty() && !parts.suffix.empty()) parts.pair = roberta_pair(*parts.bos, *parts.eos);
  return std::make_unique<ComposedTokenizer>(std::move(parts));
}

// Tokens that begin a word carry U+2581; files that kept BERT's own spelling mark the others by ##.
WordpieceModel::Parts wordpiece_parts(const Vocabulary& vocabulary, int32_t unknown) {
  const auto is_marked = [](std::string_view piece) { return piece.starts_with(kSpaceMark); };
  const bool marks_beginnings = std::ranges::any_of(vocabulary.pieces(), is_marked);
  const std::string_view mark = marks_beginnings ? kSpaceMark : std::string_view("##");
  std::vector<ByteTrie::Entry> marked, plain;
  const IsSymbol is_symbol = text_tokens(vocabulary);
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!is_symbol(id)) continue;
    const std::string_view piece = vocabulary.piece(id);
    if (piece.starts_with(mark)) {
      marked.emplace_back(piece.substr(mark.size()), id);
    } else {
      plain.emplace_back(piece, id);
    }
  }
  if (marks_beginnings) marked.swap(plain);
  return {.beginnings = ByteTrie(std::move(plain)),
          .continuations = ByteTrie(std::move(marked)),
          .unknown = unknown};
}

std::unique_ptr<Tokenizer> load_wordpiece(const Metadata& metadata) {
  TokenizerParts parts = common_parts(metadata, 101, std::nullopt);
  const Vocabulary& vocabulary = *parts.vocabulary;
  const auto unknown = token_id(metadata, vocabulary, "unknown", 100);
  if (!unknown) fail(ErrorKind::bad_model, "a WordPiece tokenizer needs tokenizer.ggml.unknown_token_id");
  normalizers::Bert options;
  options.lowercases = metadata.get_or<bool>("tokenizer.ggml.normalizer.lowercase", true);
  options.strips_accents =
      metadata.get_or<bool>("tokenizer.ggml.normalizer.strip_accents", options.lowercases);
  parts.normalizers.push_back(normalizers::bert(options));
  parts.splits.push_back(splits::white_space(SplitBehavior::removed));
  parts.splits.push_back(splits::punctuation(SplitBehavior::isolated));
  parts.model = std::make_unique<WordpieceModel>(wordpiece_parts(vocabulary, *unknown));
  parts.decoders.push_back(decoders::replace(std::string(kSpaceMark), " "));
  parts.decoders.push_back(decoders::fuse());
  parts.decoders.push_back(decoders::strip(" ", 1, 0));
  const auto cls = token_id(metadata, vocabulary, "cls", parts.bos);
  const auto separator = token_id(metadata, vocabulary, "seperator", 102);  // spelt so
  add_if(metadata, "tokenizer.ggml.add_bos_token", true, cls, parts.prefix);
  add_if(metadata, "tokenizer.ggml.add_sep_token", true, separator, parts.suffix);
  if (cls && separator) parts.pair = bert_pair(*cls, *separator);
  return std::make_unique<ComposedTokenizer>(std::move(parts));
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const Metadata& metadata) {
  const auto kind = metadata.need<std::string_view>("tokenizer.ggml.model");
  if (kind == "gpt2") return load_gpt2(metadata);
  if (kind == "llama") return load_sentence_piece_bpe(metadata);
  if (kind == "t5") return load_unigram(metadata);
  if (kind == "bert") return load_wordpiece(metadata);
  fail(ErrorKind::bad_model, "tokenizer.ggml.model is \"{}\"; gpt2, llama, t5 and bert are supported",
       printable(kind));
}

}  // namespace millrace
