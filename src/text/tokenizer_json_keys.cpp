// From tokenizer.json to the tokenizer.ggml.* keys of a GGUF file.
#include <algorithm>
#include <unordered_map>

#include "text/tokenizer.h"
#include "text/tokenizer_keys.h"
#include "text/tokenizers/base64.h"
#include "text/tokenizers/gguf_pre_types.h"
#include "text/tokenizers/json_parts.h"
#include "text/tokenizers/patterns.h"
#include "text/tokenizers/vocabulary.h"

namespace millrace {
namespace {

constexpr std::string_view kSpaceMark = "\xe2\x96\x81";

// The steps of a part: what a "Sequence" holds, or the part itself.
std::vector<const Json*> steps_of(const Json* part, std::string_view list_key) {
  std::vector<const Json*> steps;
  if (part == nullptr || part->is_null()) return steps;
  const Json* list = part->find(list_key);
  if (list == nullptr) return {part};
  for (const Json& step : list->as_array()) steps.push_back(&step);
  return steps;
}

std::string_view type_of(const Json& step) { return step.at("type").as_string(); }

[[noreturn]] void refuse(std::string_view what) {
  fail(ErrorKind::bad_model, "GGUF has no words for this tokenizer: {}", what);
}

bool is_byte_level(const Json& tokenizer) {
  const auto steps = steps_of(tokenizer.find("pre_tokenizer"), "pretokenizers");
  return !steps.empty() && type_of(*steps.back()) == "ByteLevel";
}

// The patterns that a byte-level tokenizer cuts by, in order.
std::vector<std::string> patterns_of(const Json& tokenizer) {
  std::vector<std::string> patterns;
  for (const Json* step : steps_of(tokenizer.find("pre_tokenizer"), "pretokenizers")) {
    const std::string_view type = type_of(*step);
    if (type == "Split") {
      const Json* regex = step->at("pattern").find("Regex");
      if (regex == nullptr || json_string(*step, "behavior", "") != "Isolated" ||
          json_bool(*step, "invert", false)) {
        refuse("it splits otherwise than around a pattern");
      }
      patterns.push_back(regex->as_string());
    } else if (type == "Digits" && json_bool(*step, "individual_digits", false)) {
      patterns.emplace_back(R"(\p{N})");
    } else if (type == "ByteLevel") {
      if (json_bool(*step, "add_prefix_space", true)) refuse("it puts a space before every text");
      if (json_bool(*step, "use_regex", true)) patterns.emplace_back(patterns::kGpt2);
    } else {
      refuse(fmt::format("its pre-tokenizer {}", printable(type)));
    }
  }
  return patterns;
}

bool is_nfc(const Json& tokenizer) {
  const auto steps = steps_of(tokenizer.find("normalizer"), "normalizers");
  if (steps.size() == 1 && type_of(*steps[0]) == "NFC") return true;
  if (!steps.empty()) refuse("its normalizer");
  return false;
}

// Whether a SentencePiece tokenizer puts a space before the text: its normalizer is [Prepend,] Replace.
bool prepends_space(const Json& tokenizer) {
  const auto steps = steps_of(tokenizer.find("normalizer"), "normalizers");
  const auto is_replace = [](const Json& step) {
    const Json* text = type_of(step) == "Replace" ? step.at("pattern").find("String") : nullptr;
    return text != nullptr && text->as_string() == " " && step.at("content").as_string() == kSpaceMark;
  };
  if (steps.size() == 1 && is_replace(*steps[0])) return false;
  if (steps.size() == 2 && type_of(*steps[0]) == "Prepend" && is_replace(*steps[1])) return true;
  refuse("its normalizer");
}

// WordPiece marks what continues a word, GGUF what begins one.
std::string marked_beginning(std::string_view piece) {
  return piece.starts_with("##") ? std::string(piece.substr(2))
                                 : std::string(kSpaceMark) + std::string(piece);
}

std::pair<std::string_view, std::string_view> merge_of(const Json& merge) {
  if (merge.is_array()) {
    if (merge.as_array().size() != 2) refuse("a merge of other than two tokens");
    return {merge.as_array()[0].as_string(), merge.as_array()[1].as_string()};
  }
  const std::string_view line = merge.as_string();
  const size_t space = line.find(' ');
  if (space == std::string_view::npos) refuse("a merge without a space");
  return {line.substr(0, space), line.substr(space + 1)};
}

// The id of a token that tokenizer_config.json names, by itself or as {"content"}.
std::optional<int32_t> special_id(const Tokenizer& tokenizer, const Json& config, std::string_view key) {
  const Json* token = config.find(key);
  if (token != nullptr && token->is_object()) token = token->find("content");
  if (token == nullptr || !token->is_string()) return std::nullopt;
  return tokenizer.find_piece(token->as_string());
}

// What texts are made of: letters of many scripts, numbers, signs, white space, code, marks, emoji.
// (clang-format breaks wide characters at a place that depends on the locale.)
// clang-format off
constexpr std::string_view kProbe =
    "Hello, world! It's 12345.678 o'clock; we'LL see.  Two spaces,\ttab\n\n\nthree newlines \r\n   end   \n"
    "Größe naïve café e\u0301 Ångström ǅ Straße İstanbul ﬁ ½ x² ⅷ Привет, мир! Γειά σου 안녕하세요 "
    "こんにちは カタカナ "
    "你好，世界。2024年 مرحبا ١٢٣ שלום नमस्ते दुनिया สวัสดี 👍🏽👨‍👩‍👧 🇩🇪 "
    "\u200b\u00a0\u3000 "
    "<s> "
    "</s> "
    "[INST] "
    "<|im_start|>\n"
    "def f(x: int) -> float:\n    return x**2 / 0.5e-3  # ¿qué?\n\tif (a!=b && c<=d) { printf(\"%d\\n\", "
    "*p++); }\n"
    "https://example.org/a_b-c?d=e&f=%20#g user@example.org $1,000.00 €5 50% ___ --- ... ''' \"\"\" ~~~ ▁▁ "
    "▁x";
// clang-format on

// Tokens and their ids, which a list of [text, score] counts.
std::vector<std::pair<std::string_view, int64_t>> vocabulary_of(const Json& model) {
  std::vector<std::pair<std::string_view, int64_t>> vocabulary;
  const Json& vocab = model.at("vocab");
  if (!vocab.is_array()) {
    for (const auto& [piece, id] : vocab.as_object()) vocabulary.emplace_back(piece, id.as_int());
    return vocabulary;
  }
  for (const Json& entry : vocab.as_array())
    vocabulary.emplace_back(entry.as_array().at(0).as_string(), std::ssize(vocabulary));
  return vocabulary;
}

// The text of the unknown token, or nothing.
std::string unknown_of(const Json& model) {
  const Json* id = model.find("unk_id");
  const Json& vocab = model.at("vocab");
  if (id == nullptr || id->is_null() || !vocab.is_array()) return json_string(model, "unk_token", "");
  const int64_t i = id->as_int();
  if (i < 0 || i >= std::ssize(vocab.as_array())) refuse("its unk_id");
  return vocab.as_array()[static_cast<size_t>(i)].as_array().at(0).as_string();
}

class Writer {
 public:
  std::unique_ptr<TokenizerKeys> write(const Json& tokenizer, const Json& config, int64_t n_vocab);

 private:
  void set(std::string_view key, MetaValue value) { keys_->set(key, std::move(value)); }
  std::string_view keep(std::string_view text) { return keys_->keep(text); }
  // How GGUF spells the pieces of the vocabulary.
  enum class Spelling { as_it_is, with_byte_tokens, with_marked_beginnings };
  void write_tokens(const Json& tokenizer, int64_t n_vocab, Spelling spelling);
  void write_byte_level(const Json& tokenizer);
  void write_sentence_piece(const Json& tokenizer, int64_t n_vocab);
  void write_unigram(const Json& tokenizer, int64_t n_vocab);
  void write_wordpiece(const Json& tokenizer);
  void write_special(const Tokenizer& original, const Json& config, std::optional<int32_t> unknown);
  void write_wordpiece_special(const Tokenizer& original, const Json& config);
  // Whether every token must also read the same: of WordPiece, GGUF keeps no rules for spaces.
  enum class Compare { ids, ids_and_texts };
  void verify(const Tokenizer& original, Compare compare) const;

  std::unique_ptr<TokenizerKeys> keys_ = std::make_unique<TokenizerKeys>();
};

std::unique_ptr<TokenizerKeys> Writer::write(const Json& tokenizer, const Json& config, int64_t n_vocab) {
  const Json& model = tokenizer.at("model");
  const std::string type = json_string(model, "type", "BPE");
  if (type == "WordPiece") {
    write_tokens(tokenizer, n_vocab, Spelling::with_marked_beginnings);
    write_wordpiece(tokenizer);
    const std::unique_ptr<Tokenizer> original = load_tokenizer_json(tokenizer, config);
    write_wordpiece_special(*original, config);
    verify(*original, Compare::ids);
    return std::move(keys_);
  }
  if (type == "Unigram") {
    write_tokens(tokenizer, n_vocab, Spelling::as_it_is);
    write_unigram(tokenizer, n_vocab);
    const std::unique_ptr<Tokenizer> original = load_tokenizer_json(tokenizer, config);
    write_special(*original, config, original->find_piece(unknown_of(model)));
    verify(*original, Compare::ids);
    return std::move(keys_);
  }
  if (type != "BPE") refuse("it is neither BPE nor unigram nor WordPiece");
  const bool is_bytes = is_byte_level(tokenizer);
  write_tokens(tokenizer, n_vocab, is_bytes ? Spelling::as_it_is : Spelling::with_byte_tokens);
  if (is_bytes) {
    write_byte_level(tokenizer);
  } else if (json_bool(model, "byte_fallback", false)) {
    write_sentence_piece(tokenizer, n_vocab);
  } else {
    refuse("it is neither byte-level nor like SentencePiece");
  }
  const std::unique_ptr<Tokenizer> original = load_tokenizer_json(tokenizer, config);
  write_special(*original, config, special_id(*original, config, "unk_token"));
  verify(*original, Compare::ids_and_texts);
  return std::move(keys_);
}

void Writer::write_tokens(const Json& tokenizer, int64_t n_vocab, Spelling spelling) {
  constexpr int64_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6;
  std::vector<std::string_view> pieces(static_cast<size_t>(n_vocab));
  std::vector<int64_t> kinds(pieces.size(), kUnused);
  const auto put = [&](std::string_view piece, const Json& id, int64_t kind) {
    if (id.as_int() < 0 || id.as_int() >= n_vocab) {
      fail(ErrorKind::bad_model, "the token \"{}\" has the id {}, the model has {} tokens", printable(piece),
           id.as_int(), n_vocab);
    }
    pieces[static_cast<size_t>(id.as_int())] = keep(piece);
    kinds[static_cast<size_t>(id.as_int())] = kind;
  };
  const std::string unknown = unknown_of(tokenizer.at("model"));
  for (const auto& [piece, id] : vocabulary_of(tokenizer.at("model"))) {
    const bool is_byte = spelling == Spelling::with_byte_tokens && byte_of_piece(piece).has_value();
    const bool is_marked = spelling == Spelling::with_marked_beginnings;
    put(is_marked ? marked_beginning(piece) : piece, id, is_byte ? kByte : kNormal);
  }
  if (const Json* added = tokenizer.find("added_tokens"); added != nullptr && !added->is_null()) {
    std::vector<int64_t> take_left;
    for (const Json& token : added->as_array()) {
      const std::string& text = token.at("content").as_string();
      if (json_bool(token, "lstrip", false)) take_left.push_back(token.at("id").as_int());
      const bool is_control = json_bool(token, "special", false);
      put(text, token.at("id"), text == unknown ? kUnknown : is_control ? kControl : kUserDefined);
    }
    if (!take_left.empty()) set("takes_left_token_ids", std::move(take_left));
  }
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (kinds[id] == kUnused) pieces[id] = keep(fmt::format("[PAD{}]", id));
  }
  set("tokens", std::move(pieces));
  set("token_type", std::move(kinds));
}

void Writer::write_byte_level(const Json& tokenizer) {
  const Json& model = tokenizer.at("model");
  const PreType* pre =
      match_pre_type(patterns_of(tokenizer), json_bool(model, "ignore_merges", false), is_nfc(tokenizer));
  if (pre == nullptr) refuse("no tokenizer.ggml.pre cuts text as it does");
  set("model", keep("gpt2"));
  set("pre", keep(pre->name));
  std::vector<std::string_view> merges;
  for (const Json& merge : model.at("merges").as_array()) {
    const auto [left, right] = merge_of(merge);
    merges.push_back(keep(fmt::format("{} {}", left, right)));
  }
  set("merges", std::move(merges));
}

// Ids are within n_vocab: write_tokens has looked. A piece's score is the rank of the first merge that gives
// it: what is merged first has the highest score.
void Writer::write_sentence_piece(const Json& tokenizer, int64_t n_vocab) {
  set("model", keep("llama"));
  set("pre", keep("default"));
  set("add_space_prefix", prepends_space(tokenizer));
  std::unordered_map<std::string, double> scores;
  double rank = 0;
  for (const Json& merge : tokenizer.at("model").at("merges").as_array()) {
    const auto [left, right] = merge_of(merge);
    if (scores.emplace(std::string(left) + std::string(right), -rank).second) ++rank;
  }
  std::vector<double> all(static_cast<size_t>(n_vocab), -rank);
  for (const auto& [piece, id] : tokenizer.at("model").at("vocab").as_object()) {
    const auto found = scores.find(piece);
    if (found != scores.end()) all[static_cast<size_t>(id.as_int())] = found->second;
  }
  set("scores", std::move(all));
}

// A SentencePiece model in the words of tokenizer.json: perhaps a charsmap, then words marked by U+2581.
void Writer::write_unigram(const Json& tokenizer, int64_t n_vocab) {
  const Json& model = tokenizer.at("model");
  if (json_bool(model, "byte_fallback", false)) refuse("a unigram model that falls back to bytes");
  set("model", keep("t5"));
  set("pre", keep("default"));
  bool merges_spaces = false, has_marks = false;
  for (const Json* step : steps_of(tokenizer.find("normalizer"), "normalizers")) {
    const std::string_view type = type_of(*step);
    if (type == "Precompiled") {
      const std::string blob =
          decode_base64(step->at("precompiled_charsmap").as_string(), "precompiled_charsmap");
      std::vector<int64_t> bytes;
      for (const char byte : blob) bytes.push_back(static_cast<uint8_t>(byte));
      set("precompiled_charsmap", std::move(bytes));
    } else if (type == "Replace" || type == "Strip") {
      merges_spaces = true;  // whether it is that, verify() will see
    } else {
      refuse(fmt::format("its normalizer {}", printable(type)));
    }
  }
  for (const Json* step : steps_of(tokenizer.find("pre_tokenizer"), "pretokenizers")) {
    merges_spaces = merges_spaces || type_of(*step) == "WhitespaceSplit";
    has_marks = has_marks || type_of(*step) == "Metaspace";
  }
  if (!has_marks) refuse("its pre-tokenizer");
  set("remove_extra_whitespaces", merges_spaces);
  set("add_space_prefix", true);
  std::vector<double> scores(static_cast<size_t>(n_vocab), 0.0);
  for (size_t i = 0; i < model.at("vocab").as_array().size(); ++i)
    scores.at(i) = model.at("vocab").as_array()[i].as_array().at(1).as_double();
  set("scores", std::move(scores));
}

void Writer::write_wordpiece(const Json& tokenizer) {
  const Json& model = tokenizer.at("model");
  if (json_string(model, "continuing_subword_prefix", "##") != "##")
    refuse("its mark of what continues a word");
  const auto normalizers = steps_of(tokenizer.find("normalizer"), "normalizers");
  const auto splits = steps_of(tokenizer.find("pre_tokenizer"), "pretokenizers");
  if (normalizers.size() != 1 || type_of(*normalizers[0]) != "BertNormalizer") refuse("its normalizer");
  if (splits.size() != 1 || type_of(*splits[0]) != "BertPreTokenizer") refuse("its pre-tokenizer");
  const bool lowercases = json_bool(*normalizers[0], "lowercase", true);
  set("model", keep("bert"));
  set("pre", keep("default"));
  set("normalizer.lowercase", lowercases);
  set("normalizer.strip_accents", json_bool(*normalizers[0], "strip_accents", lowercases));
}

// A text stands between the tokens [CLS] and [SEP].
void Writer::write_wordpiece_special(const Tokenizer& original, const Json& config) {
  const std::vector<int32_t> frame = original.encode("", {.add_special = true});
  if (frame.size() != 2) refuse("it adds other than a first and a last token to a text");
  const auto unknown = special_id(original, config, "unk_token");
  set("bos_token_id", int64_t{frame[0]});
  set("cls_token_id", int64_t{frame[0]});
  set("seperator_token_id", int64_t{frame[1]});  // spelt so
  set("add_bos_token", true);
  set("add_sep_token", true);
  set("token_type_count", int64_t{2});
  set("unknown_token_id", int64_t{unknown.value_or(original.find_piece("[UNK]").value_or(100))});
  if (const auto padding = special_id(original, config, "pad_token"))
    set("padding_token_id", int64_t{*padding});
  if (const auto mask = special_id(original, config, "mask_token")) set("mask_token_id", int64_t{*mask});
}

void Writer::write_special(const Tokenizer& original, const Json& config, std::optional<int32_t> unknown) {
  const auto set_id = [&](std::string_view key, std::optional<int32_t> id) {
    if (id) set(key, int64_t{*id});
  };
  std::vector<int32_t> frame = original.encode("", {.add_special = true});
  std::optional<int32_t> bos = original.bos(), eos = original.eos();
  if (frame.size() == 2 && !bos && !eos) {  // an encoder's [CLS] and [SEP]
    bos = frame[0];
    eos = frame[1];
    set_id("cls_token_id", bos);
    set_id("seperator_token_id", eos);  // spelt so
  }
  set_id("bos_token_id", bos);
  set_id("eos_token_id", eos);
  set_id("unknown_token_id", unknown);
  set_id("padding_token_id", special_id(original, config, "pad_token"));
  set_id("mask_token_id", special_id(original, config, "mask_token"));
  const bool adds_bos = !frame.empty() && frame.front() == bos;
  if (adds_bos) frame.erase(frame.begin());
  const bool adds_eos = !frame.empty() && frame.front() == eos;
  if (adds_eos) frame.erase(frame.begin());
  if (!frame.empty()) refuse("it adds more than its first and last token to a text");
  set("add_bos_token", adds_bos);
  set("add_eos_token", adds_eos);
}

void Writer::verify(const Tokenizer& original, Compare compare) const {
  const Metadata metadata = keys_->metadata();
  const auto written = load_tokenizer(metadata);
  const auto check_text = [&](std::string_view text, Tokenizer::Options options) {
    if (original.encode(text, options) != written->encode(text, options)) {
      refuse(fmt::format("\"{}\" would give other tokens", printable(text)));
    }
  };
  check_text(kProbe, {.add_special = true, .parse_special = true});
  check_text(kProbe, {.add_special = false, .parse_special = false});
  const auto pair = original.encode_pair("a", kProbe), written_pair = written->encode_pair("a", kProbe);
  const bool is_known = compare == Compare::ids && pair.has_value();
  if (is_known && (!written_pair || pair->ids != written_pair->ids || pair->types != written_pair->types))
    refuse("a pair of texts would give other tokens");
  for (int32_t id = 0; id < original.n_vocab(); ++id) {
    const std::string text = original.token_bytes(id, true);
    if (compare == Compare::ids_and_texts && text != written->token_bytes(id, true))
      refuse(fmt::format("token {} would read otherwise", id));
    check_text("a " + text + " b", {.add_special = false, .parse_special = true});
  }
}

}  // namespace

std::unique_ptr<TokenizerKeys> tokenizer_json_keys(const Json& tokenizer, const Json& config,
                                                   int64_t n_vocab) {
  return Writer().write(tokenizer, config, n_vocab);
}

}  // namespace millrace
