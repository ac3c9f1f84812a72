// tokenizer.model and tekken.json, written here byte by byte; what they encode; and what is no such file.
#include "text/tokenizer_keys.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "text/tokenizer.h"

namespace millrace {
namespace {

using Ids = std::vector<int32_t>;

// --- tokenizer.model -----------------------------------------------------------------------------------

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 128; value >>= 7) bytes += static_cast<char>(value | 128);
  return bytes + static_cast<char>(value);
}
std::string integer_field(int field, uint64_t value) {
  return varint(static_cast<uint64_t>(field) << 3) + varint(value);
}
std::string bytes_field(int field, std::string_view bytes) {
  return varint(static_cast<uint64_t>(field) << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}
std::string float_field(int field, float value) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &value, 4);
  return varint(static_cast<uint64_t>(field) << 3 | 5) + bytes;
}
std::string piece(std::string_view text, float score, uint64_t kind = 1) {
  return bytes_field(1, bytes_field(1, text) + float_field(2, score) + integer_field(3, kind));
}

// Llama 2's arrangement: unknown, ends, bytes, pieces by their rank.
std::string model(uint64_t type, bool prepends_space = true) {
  std::string file = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3);
  for (int byte = 0; byte < 256; ++byte) file += piece(fmt::format("<0x{:02X}>", byte), 0, 6);
  float score = 0;
  for (const char* text : {"ab",
                           "\xe2\x96\x81"
                           "ab",
                           "abab", "\xe2\x96\x81", "a", "b", "c"})
    file += piece(text, --score);
  file +=
      bytes_field(2, integer_field(3, type) + integer_field(35, type == 2) + bytes_field(1, "corpus.txt"));
  return file + bytes_field(3, bytes_field(1, "identity") + integer_field(3, prepends_space ? 1 : 0) +
                                   integer_field(4, 0));
}

std::string sentence_of(std::string_view file) {
  try {
    const auto keys = sentence_piece_keys(file, Json(), 0);
    const Metadata metadata = keys->metadata();
    load_tokenizer(metadata)->encode("ab c \xff", {});
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    return error.what();
  }
  return "";
}

TEST(SentencePieceKeys, Bpe) {
  const auto keys = sentence_piece_keys(model(2), Json(), 270);
  const Metadata metadata = keys->metadata();
  const auto tokenizer = load_tokenizer(metadata);
  EXPECT_EQ(tokenizer->n_vocab(), 270);
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  // 259 "ab", 260 "▁ab", 261 "abab", 262 "▁", 263 "a", 264 "b", 265 "c"; bytes are 3 + value.
  EXPECT_EQ(tokenizer->encode("abab c!", {}), (Ids{1, 260, 259, 262, 265, 3 + '!'}));
  EXPECT_EQ(tokenizer->encode("abab", {.add_special = false}), (Ids{260, 259}));
  EXPECT_EQ(tokenizer->decode(Ids{1, 260, 259, 262, 265}, false), "abab c");
}

TEST(SentencePieceKeys, WithoutADummyPrefix) {
  const auto keys = sentence_piece_keys(model(2, false), Json(), 0);
  const Metadata metadata = keys->metadata();
  EXPECT_EQ(load_tokenizer(metadata)->encode("abab ab", {.add_special = false}), (Ids{261, 260}));
}

TEST(SentencePieceKeys, Unigram) {
  const auto keys = sentence_piece_keys(model(1), Json(), 0);
  const Metadata metadata = keys->metadata();
  // "▁ab" + "ab" scores -3, "▁" + "abab" -7.
  EXPECT_EQ(load_tokenizer(metadata)->encode("abab", {.add_special = false}), (Ids{260, 259}));
}

TEST(SentencePieceKeys, TheConfigAddsTokensAndNamesTheEnds) {
  const Json config =
      Json::parse(R"({"add_bos_token": false, "eos_token": {"content": "<|end|>"}, "added_tokens_decoder":
      {"1": {"content": "<s>", "special": true}, "268": {"content": "<|end|>", "special": true},
       "267": {"content": "<tool>", "special": false}}})",
                  "tokenizer_config.json");
  const auto keys = sentence_piece_keys(model(2), config, 0);
  const Metadata metadata = keys->metadata();
  const auto tokenizer = load_tokenizer(metadata);
  EXPECT_EQ(tokenizer->n_vocab(), 269);
  EXPECT_EQ(tokenizer->eos(), 268);
  EXPECT_EQ(tokenizer->encode("ab<tool><|end|>", {.parse_special = true}), (Ids{260, 267, 268}));
  EXPECT_EQ(tokenizer->encode("<|end|>", {.parse_special = false}).front(), 262);
}

TEST(SentencePieceKeys, RefusesWhatIsNoModel) {
  EXPECT_EQ(sentence_of(model(2)), "");
  EXPECT_NE(sentence_of(""), "");
  EXPECT_NE(sentence_of("IQ== 0\nIg== 1\n"), "");  // tiktoken's file of the same name
  EXPECT_NE(sentence_of(bytes_field(1, bytes_field(1, "a")) + bytes_field(2, integer_field(35, 1))), "");
  EXPECT_NE(sentence_of(model(3)), "");  // of words
  EXPECT_NE(sentence_of(piece("a", std::nanf(""))), "");
  EXPECT_NE(sentence_of(piece("a", 0, 9)), "");
  EXPECT_NE(sentence_of(bytes_field(1, integer_field(1, 5))), "");      // a number as a text
  EXPECT_NE(sentence_of(varint(1 << 3 | 2) + varint(UINT64_MAX)), "");  // longer than anything
  EXPECT_NE(sentence_of(std::string(11, '\xff')), "");                  // a number without an end
  EXPECT_NE(sentence_of(varint(1 << 3 | 3)), "");                       // a group
}

// Every beginning of a file, and the file with each of its bytes changed: a sentence or a tokenizer.
TEST(SentencePieceKeys, SurvivesDamage) {
  const std::string file = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("a", -1) +
                           bytes_field(2, integer_field(3, 2)) + bytes_field(3, integer_field(3, 1));
  for (size_t i = 0; i < file.size(); ++i) {
    sentence_of(std::string_view(file).substr(0, i));
    for (const char value : {'\0', '\x01', '\x7f', '\x80', '\xff'}) {
      std::string damaged = file;
      damaged[i] = value;
      sentence_of(damaged);
    }
  }
}

// --- tekken.json ---------------------------------------------------------------------------------------

constexpr const char* kPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::string base64(std::string_view bytes) {
  constexpr const char* kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t three = 0;
    for (size_t k = 0; k < 3; ++k)
      three = three << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) text += i + k > bytes.size() ? '=' : kAlphabet[three >> (18 - 6 * k) & 63];
  }
  return text;
}

Json tekken(bool lists_special = true) {
  Json::Array vocab;
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* text : {"he", "ll", "hell", "hello", " h", "lo", "unused"}) tokens.emplace_back(text);
  for (size_t rank = 0; rank < tokens.size(); ++rank) {
    vocab.push_back(Json::Object{
        {"rank", static_cast<int64_t>(rank)}, {"token_bytes", base64(tokens[rank])}, {"token_str", nullptr}});
  }
  Json out;
  out["config"]["pattern"] = kPattern;
  out["config"]["default_vocab_size"] = 20 + 256 + 6;  // the last token is not used
  out["config"]["default_num_special_tokens"] = 20;
  out["vocab"] = std::move(vocab);
  if (lists_special) {
    out["special_tokens"] =
        Json::Array{Json::Object{{"rank", 1}, {"token_str", "<s>"}, {"is_control", true}},
                    Json::Object{{"rank", 2}, {"token_str", "</s>"}, {"is_control", true}},
                    Json::Object{{"rank", 3}, {"token_str", "[THINK]"}, {"is_control", true}}};
  }
  return out;
}

std::string tekken_sentence(const Json& json) {
  try {
    tekken_keys(json, 0);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    return error.what();
  }
  return "";
}

TEST(TekkenKeys, EncodesByRank) {
  const auto keys = tekken_keys(tekken(), 300);
  const Metadata metadata = keys->metadata();
  const auto tokenizer = load_tokenizer(metadata);
  EXPECT_EQ(tokenizer->n_vocab(), 300);
  // Specials 0..19, bytes 20.., then he 276, ll 277, hell 278, hello 279, " h" 280, lo 281.
  EXPECT_EQ(tokenizer->encode("hello", {}), (Ids{1, 279}));
  EXPECT_EQ(tokenizer->encode("hells", {.add_special = false}), (Ids{278, 20 + 's'}));
  EXPECT_EQ(tokenizer->encode("lo", {.add_special = false}), (Ids{281}));
  // The whole piece is no token; of its pairs "he" has the lowest rank, so " h" is not made.
  EXPECT_EQ(tokenizer->encode(" helloo", {.add_special = false}), (Ids{20 + ' ', 279, 20 + 'o'}));
  EXPECT_EQ(tokenizer->encode("[THINK]hello</s>", {.add_special = false, .parse_special = true}),
            (Ids{3, 279, 2}));
  EXPECT_EQ(tokenizer->decode(Ids{1, 279, 20 + 0xc3, 20 + 0xa9}, false), "hello\xc3\xa9");
  EXPECT_EQ(tokenizer->piece(5), "<SPECIAL_5>");
}

TEST(TekkenKeys, OldFilesDoNotListTheirSpecialTokens) {
  const auto keys = tekken_keys(tekken(false), 0);
  const Metadata metadata = keys->metadata();
  EXPECT_EQ(load_tokenizer(metadata)->encode("[INST]", {.add_special = false, .parse_special = true}),
            (Ids{3}));
}

TEST(TekkenKeys, RefusesWhatIsNoTekken) {
  EXPECT_EQ(tekken_sentence(tekken()), "");
  const auto changed = [](std::string_view key, Json value) {
    Json json = tekken();
    json["config"][key] = std::move(value);
    return tekken_sentence(json);
  };
  EXPECT_NE(changed("pattern", "a+"), "");
  EXPECT_NE(changed("default_vocab_size", -1), "");
  EXPECT_NE(changed("default_vocab_size", int64_t{1} << 40), "");
  EXPECT_NE(changed("default_num_special_tokens", 1000), "");
  EXPECT_NE(tekken_sentence(Json(Json::Object())), "");
  Json hole = tekken();
  hole["vocab"] = Json::Array{Json::Object{{"rank", 7}, {"token_bytes", "AA=="}}};
  EXPECT_NE(tekken_sentence(hole), "");
  Json special = tekken();
  special["special_tokens"] = Json::Array{Json::Object{{"rank", 20}, {"token_str", "x"}}};
  EXPECT_NE(tekken_sentence(special), "");
  Json broken = tekken();
  broken["vocab"] = Json::Array{Json::Object{{"rank", 0}, {"token_bytes", "not base64"}}};
  EXPECT_NE(tekken_sentence(broken), "");
}

}  // namespace
}  // namespace millrace
