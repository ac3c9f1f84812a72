// SentencePiece's ModelProto (sentencepiece_model.proto of github.com/google/sentencepiece).
#include <cmath>
#include <optional>

#include "text/tokenizer_keys.h"
#include "text/tokenizers/json_parts.h"
#include "text/tokenizers/protobuf_reader.h"
#include "text/tokenizers/vocabulary.h"

namespace millrace {
namespace {

constexpr std::string_view kWhat = "tokenizer.model";
constexpr int64_t kControl = 3, kUserDefined = 4, kUnused = 5;

struct Piece {
  std::string_view text;
  float score = 0.0f;
  int64_t kind = 1;
};

// The parts of the file, with the defaults of the protocol.
struct Model {
  std::vector<Piece> pieces;
  uint64_t type = 1;  // unigram; 2: BPE
  bool has_byte_fallback = false;
  int32_t unknown = 0, bos = 1, eos = 2, pad = -1;
  bool prepends_space = true, merges_spaces = true;
  std::string_view charsmap;
};

[[noreturn]] void refuse(std::string_view why) { fail(ErrorKind::bad_model, "tokenizer.model: {}", why); }

Piece read_piece(std::string_view bytes) {
  Piece piece;
  for (ProtobufReader reader(bytes, kWhat); reader.next();) {
    if (reader.field() == 1) piece.text = reader.bytes();
    if (reader.field() == 2) piece.score = reader.real();
    if (reader.field() == 3) piece.kind = static_cast<int64_t>(reader.integer());
  }
  if (!std::isfinite(piece.score) || piece.kind < 1 || piece.kind > 6) refuse("a piece makes no sense");
  return piece;
}

void read_trainer(std::string_view bytes, Model& model) {
  for (ProtobufReader reader(bytes, kWhat); reader.next();) {
    if (reader.field() == 3) model.type = reader.integer();
    if (reader.field() == 35) model.has_byte_fallback = reader.integer() != 0;
    if (reader.field() == 40) model.unknown = static_cast<int32_t>(reader.integer());
    if (reader.field() == 41) model.bos = static_cast<int32_t>(reader.integer());
    if (reader.field() == 42) model.eos = static_cast<int32_t>(reader.integer());
    if (reader.field() == 43) model.pad = static_cast<int32_t>(reader.integer());
  }
}

void read_normalizer(std::string_view bytes, Model& model) {
  for (ProtobufReader reader(bytes, kWhat); reader.next();) {
    if (reader.field() == 2) model.charsmap = reader.bytes();
    if (reader.field() == 3) model.prepends_space = reader.integer() != 0;
    if (reader.field() == 4) model.merges_spaces = reader.integer() != 0;
    if (reader.field() == 5 && reader.integer() == 0)
      refuse("spaces that are not escaped are not implemented");
  }
}

Model read_model(std::string_view file) {
  Model model;
  for (ProtobufReader reader(file, kWhat); reader.next();) {
    if (reader.field() == 1) model.pieces.push_back(read_piece(reader.bytes()));
    if (reader.field() == 2) read_trainer(reader.bytes(), model);
    if (reader.field() == 3) read_normalizer(reader.bytes(), model);
    if (std::ssize(model.pieces) > kMaxTokenId) refuse("it has too many pieces");
  }
  if (model.pieces.empty()) refuse("it has no pieces");
  if (model.type != 1 && model.type != 2) refuse("only unigram and BPE models are implemented");
  if (model.type == 1 && model.has_byte_fallback)
    refuse("unigram models that fall back to bytes are not implemented");
  return model;
}

// Tokens that transformers added to the model's own: {"32000": {"content": "<pad>", "special": true}}.
void add_tokens(const Json& config, TokenizerKeys& keys, std::vector<Piece>& pieces) {
  const Json* added = config.find("added_tokens_decoder");
  if (added == nullptr || !added->is_object()) return;
  for (const auto& [key, token] : added->as_object()) {
    const bool is_number = !key.empty() && key.size() <= 7 && key.find_first_not_of("0123456789") == key.npos;
    const int64_t id = is_number ? std::stoll(key) : -1;
    if (id < 0 || id > kMaxTokenId) refuse(fmt::format("added token {} is no id", printable(key)));
    if (id >= std::ssize(pieces)) pieces.resize(static_cast<size_t>(id) + 1, {.kind = kUnused});
    Piece& piece = pieces[static_cast<size_t>(id)];
    const bool is_of_model = piece.kind == 2 || piece.kind == 6;  // unknown, byte
    piece.text = keys.keep(json_string(token, "content", ""));
    if (!is_of_model) piece.kind = json_bool(token, "special", false) ? kControl : kUserDefined;
  }
}

// The id of a token that the config names, by itself or as {"content"}; `otherwise` where it names none.
std::optional<int32_t> id_of(const Json& config, std::string_view key, const std::vector<Piece>& pieces,
                             int32_t otherwise) {
  const Json* token = config.find(key);
  if (token != nullptr && token->is_object()) token = token->find("content");
  if (token != nullptr && token->is_string()) {
    for (size_t id = 0; id < pieces.size(); ++id) {
      if (pieces[id].text == token->as_string()) return static_cast<int32_t>(id);
    }
  }
  return otherwise >= 0 && otherwise < std::ssize(pieces) ? std::optional(otherwise) : std::nullopt;
}

void write_pieces(const std::vector<Piece>& pieces, TokenizerKeys& keys) {
  std::vector<std::string_view> texts;
  std::vector<double> scores;
  std::vector<int64_t> kinds;
  for (size_t id = 0; id < pieces.size(); ++id) {
    const bool is_hole = pieces[id].kind == kUnused && pieces[id].text.empty();
    texts.push_back(keys.keep(is_hole ? fmt::format("[PAD{}]", id) : std::string(pieces[id].text)));
    scores.push_back(pieces[id].score);
    kinds.push_back(pieces[id].kind);
  }
  keys.set("tokens", std::move(texts));
  keys.set("scores", std::move(scores));
  keys.set("token_type", std::move(kinds));
}

}  // namespace

std::unique_ptr<TokenizerKeys> sentence_piece_keys(std::string_view file, const Json& config,
                                                   int64_t n_vocab) {
  auto keys = std::make_unique<TokenizerKeys>();
  Model model = read_model(file);
  add_tokens(config, *keys, model.pieces);
  if (std::ssize(model.pieces) < n_vocab)
    model.pieces.resize(static_cast<size_t>(n_vocab), {.kind = kUnused});
  const bool is_bpe = model.type == 2;
  keys->set("model", keys->keep(is_bpe ? "llama" : "t5"));
  keys->set("pre", keys->keep("default"));
  write_pieces(model.pieces, *keys);
  keys->set("add_space_prefix", model.prepends_space);
  keys->set("remove_extra_whitespaces", model.merges_spaces);
  if (!model.charsmap.empty()) {
    std::vector<int64_t> bytes;
    for (const char byte : model.charsmap) bytes.push_back(static_cast<uint8_t>(byte));
    keys->set("precompiled_charsmap", std::move(bytes));
  }
  const struct {
    std::string_view in_config, key;
    int32_t otherwise;
  } ids[] = {{"bos_token", "bos_token_id", model.bos},
             {"eos_token", "eos_token_id", model.eos},
             {"unk_token", "unknown_token_id", model.unknown},
             {"pad_token", "padding_token_id", model.pad}};
  for (const auto& [in_config, key, otherwise] : ids) {
    if (const auto id = id_of(config, in_config, model.pieces, otherwise)) keys->set(key, int64_t{*id});
  }
  const bool has_bos = id_of(config, "bos_token", model.pieces, model.bos).has_value();
  const bool has_eos = id_of(config, "eos_token", model.pieces, model.eos).has_value();
  keys->set("add_bos_token", has_bos && json_bool(config, "add_bos_token", is_bpe));
  keys->set("add_eos_token", has_eos && json_bool(config, "add_eos_token", !is_bpe));
  return keys;
}

}  // namespace millrace
