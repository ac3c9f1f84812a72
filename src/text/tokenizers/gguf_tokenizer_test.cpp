// Small vocabularies written here, honest and hostile.
#include <gtest/gtest.h>

#include <thread>

#include "base/error.h"
#include "text/tokenizer.h"

namespace millrace {
namespace {

using Ids = std::vector<int32_t>;
using Strings = std::vector<std::string_view>;

constexpr Tokenizer::Options kPlain{.add_special = false};
constexpr Tokenizer::Options kSpecial{.add_special = true, .parse_special = true};

// "Ġ" is a space in the byte-level alphabet. Ids:
//  0 a  1 b  2 c  3 Ġ  4 ab  5 bc  6 Ġa  7 abc  8 <|end|>  9 <tool>  10 d
Metadata bpe_metadata(std::string_view pre = "gpt-2") {
  Metadata metadata;
  metadata.add("tokenizer.ggml.model", std::string_view("gpt2"));
  metadata.add("tokenizer.ggml.pre", pre);
  metadata.add("tokenizer.ggml.tokens",
               Strings{"a", "b", "c", "Ġ", "ab", "bc", "Ġa", "abc", "<|end|>", "<tool>", "d"});
  metadata.add("tokenizer.ggml.token_type", std::vector<int64_t>{1, 1, 1, 1, 1, 1, 1, 1, 3, 4, 1});
  metadata.add("tokenizer.ggml.merges", Strings{"b c", "a b", "Ġ a"});
  metadata.add("tokenizer.ggml.bos_token_id", int64_t{8});
  metadata.add("tokenizer.ggml.eos_token_id", int64_t{8});
  return metadata;
}

TEST(GgufBpeTest, MergesTheLowestRankFirstAndTheLeftmost) {
  const Metadata metadata = bpe_metadata();
  const auto tokenizer = load_tokenizer(metadata);
  EXPECT_EQ(tokenizer->encode("abc", kPlain), (Ids{0, 5}));
  EXPECT_EQ(tokenizer->encode("abab", kPlain), (Ids{4, 4}));
  EXPECT_EQ(tokenizer->encode(" abc", kPlain), (Ids{6, 5}));
  EXPECT_EQ(tokenizer->encode("", kPlain), Ids{});
}

TEST(GgufBpeTest, IgnoresMergesWhereThePreTokenizerSaysSo) {
  const Metadata metadata = bpe_metadata("llama-bpe");
  const auto tokenizer = load_tokenizer(metadata);
  EXPECT_EQ(tokenizer->encode("abc", kPlain), (Ids{7}));
  EXPECT_EQ(tokenizer->encode("a", {}), (Ids{8, 0}));  // and adds BOS
}

TEST(GgufBpeTest, ControlTextStaysTextUnlessAskedFor) {
  const Metadata metadata = bpe_metadata();
  const auto tokenizer = load_tokenizer(metadata);
  EXPECT_EQ(tokenizer->encode("a<|end|>b", kSpecial), (Ids{0, 8, 1}));
  for (const int32_t id : tokenizer->encode("a<|end|>b", kPlain)) EXPECT_NE(id, 8);
  EXPECT_EQ(tokenizer->encode("a<tool>b", kPlain), (Ids{0, 9, 1}));  // user-defined: always
}

TEST(GgufBpeTest, Decodes) {
  const Metadata metadata = bpe_metadata();
  const auto tokenizer = load_tokenizer(metadata);
  const Ids ids = {6, 5, 8, 9, -1, 99};
  EXPECT_EQ(tokenizer->decode(ids, true), " abc<|end|><tool>");
  EXPECT_EQ(tokenizer->decode(ids, false), " abc<tool>");
  EXPECT_EQ(tokenizer->token_bytes(6, false), " a");
  EXPECT_EQ(tokenizer->token_bytes(8, false), "");
  EXPECT_EQ(tokenizer->token_bytes(8, true), "<|end|>");
  EXPECT_EQ(tokenizer->token_bytes(99, true), "");
  EXPECT_EQ(tokenizer->piece(6), "Ġa");
  EXPECT_EQ(tokenizer->piece(-5), "");
  EXPECT_EQ(tokenizer->find_piece("Ġa"), 6);
  EXPECT_EQ(tokenizer->find_piece(" a"), std::nullopt);
  EXPECT_EQ(tokenizer->n_vocab(), 11);
  EXPECT_EQ(tokenizer->bos(), 8);
  EXPECT_EQ(Ids(tokenizer->end_tokens().begin(), tokenizer->end_tokens().end()), (Ids{8}));
}

TEST(GgufBpeTest, GptOssEndsAnAnswerByReturnAndNotByEnd) {
  Metadata metadata = bpe_metadata();
  Metadata with_return;
  for (const auto& [key, value] : metadata.entries()) {
    if (key == "tokenizer.ggml.eos_token_id") continue;
    with_return.add(key, key == "tokenizer.ggml.tokens" ? Strings{"a", "b", "c", "Ġ", "ab", "bc", "Ġa", "abc",
                                                                  "<|end|>", "<|return|>", "d"}
                                                        : value);
  }
  const auto tokenizer = load_tokenizer(with_return);
  EXPECT_EQ(Ids(tokenizer->end_tokens().begin(), tokenizer->end_tokens().end()), (Ids{9}));
}

TEST(GgufBpeTest, RefusesAnUnknownPreTokenizerByName) {
  const Metadata metadata = bpe_metadata("my-own\x1b[31m");
  try {
    load_tokenizer(metadata);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    EXPECT_NE(std::string(error.what()).find("my-own"), std::string::npos);
    EXPECT_EQ(std::string(error.what()).find('\x1b'), std::string::npos);
  }
}

TEST(GgufBpeTest, ManyThreadsEncodeTheSame) {
  const Metadata metadata = bpe_metadata();
  const auto tokenizer = load_tokenizer(metadata);
  std::string text;
  for (int i = 0; i < 1000; ++i) text += i % 3 == 0 ? " abc" : "ab c";
  const Ids expected = tokenizer->encode(text, kPlain);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 20; ++k) EXPECT_EQ(tokenizer->encode(text, kPlain), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// A long piece goes through the heap, a short one through the search: the same ids. And in good time.
TEST(GgufBpeTest, AMegabyteOfOneLetterTakesNoTime) {
  Metadata metadata;
  metadata.add("tokenizer.ggml.model", std::string_view("gpt2"));
  metadata.add("tokenizer.ggml.pre", std::string_view("gpt-2"));
  metadata.add("tokenizer.ggml.tokens", Strings{"a", "aa", "aaaa", "aaaaaaaa"});
  metadata.add("tokenizer.ggml.merges", Strings{"a a", "aa aa", "aaaa aaaa"});
  const auto tokenizer = load_tokenizer(metadata);
  for (size_t n = 1; n < 200; ++n) {
    Ids expected(n / 8, 3);
    if (n & 4) expected.push_back(2);
    if (n & 2) expected.push_back(1);
    if (n & 1) expected.push_back(0);
    ASSERT_EQ(tokenizer->encode(std::string(n, 'a'), kPlain), expected) << n;
  }
  EXPECT_EQ(tokenizer->encode(std::string(1 << 20, 'a'), kPlain).size(), (1u << 20) / 8);
}

//  0 <unk>  1 <s>  2 </s>  3 ▁  4 a  5 b  6 ▁a  7 ab  8 ▁ab  9.. <0x00> to <0xFF>
struct SentencePiece {
  std::vector<std::string> bytes;
  Metadata metadata;

  explicit SentencePiece(bool has_prefix = true) {
    for (int i = 0; i < 256; ++i) bytes.push_back(fmt::format("<0x{:02X}>", i));
    Strings tokens = {"<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "▁ab"};
    std::vector<double> scores = {0, 0, 0, -9, -8, -7, -2, -3, -4};
    std::vector<int64_t> types = {2, 3, 3, 1, 1, 1, 1, 1, 1};
    for (const std::string& byte : bytes) {
      tokens.push_back(byte);
      scores.push_back(0);
      types.push_back(6);
    }
    metadata.add("tokenizer.ggml.model", std::string_view("llama"));
    metadata.add("tokenizer.ggml.tokens", tokens);
    metadata.add("tokenizer.ggml.scores", scores);
    metadata.add("tokenizer.ggml.token_type", types);
    metadata.add("tokenizer.ggml.add_space_prefix", has_prefix);
  }
};

TEST(GgufSentencePieceTest, MergesTheHighestScoreFirst) {
  const SentencePiece file;
  const auto tokenizer = load_tokenizer(file.metadata);
  EXPECT_EQ(tokenizer->encode("ab", kPlain), (Ids{8}));      // ▁a, then ▁ab
  EXPECT_EQ(tokenizer->encode("aab", kPlain), (Ids{6, 7}));  // ▁a, then ab
}

TEST(GgufSentencePieceTest, FallsBackToBytes) {
  const SentencePiece file(false);
  const auto tokenizer = load_tokenizer(file.metadata);
  EXPECT_EQ(tokenizer->encode("a\xc3\xa9\n", kPlain), (Ids{4, 9 + 0xc3, 9 + 0xa9, 9 + 0x0a}));
  EXPECT_EQ(tokenizer->encode("<0x41>", kPlain).size(), 6u);  // a byte token's text is text
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\xc3\xa9\n", kPlain), false), "a\xc3\xa9\n");
}

TEST(GgufSentencePieceTest, AddsBosAndDropsTheSpaceItPutInFront) {
  const SentencePiece file;
  const auto tokenizer = load_tokenizer(file.metadata);
  const Ids ids = tokenizer->encode("a b", {});
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(tokenizer->decode(ids, false), "a b");
  EXPECT_EQ(tokenizer->encode("<s>a", kPlain).front(), 3);
  EXPECT_EQ(tokenizer->encode("<s>a", kSpecial), (Ids{1, 1, 6}));
}

TEST(GgufSentencePieceTest, AMegabyteTakesNoTime) {
  const SentencePiece file;
  const auto tokenizer = load_tokenizer(file.metadata);
  EXPECT_EQ(tokenizer->encode(std::string(1 << 20, 'b'), kPlain).size(), (1u << 20) + 1);
  EXPECT_EQ(tokenizer->encode(std::string(1 << 20, ' '), kPlain).size(), (1u << 20) + 1);
}

Metadata unigram_metadata() {
  Metadata metadata;
  metadata.add("tokenizer.ggml.model", std::string_view("t5"));
  metadata.add("tokenizer.ggml.tokens", Strings{"<pad>", "</s>", "<unk>", "▁", "a", "b", "▁ab", "ab", "aab"});
  metadata.add("tokenizer.ggml.scores", std::vector<double>{0, 0, 0, -2, -3, -3, -2.5, -4, -3.5});
  metadata.add("tokenizer.ggml.token_type", std::vector<int64_t>{3, 3, 2, 1, 1, 1, 1, 1, 1});
  metadata.add("tokenizer.ggml.remove_extra_whitespaces", true);
  return metadata;
}

TEST(GgufUnigramTest, TakesTheBestSum) {
  const Metadata metadata = unigram_metadata();
  const auto tokenizer = load_tokenizer(metadata);
  EXPECT_EQ(tokenizer->encode("ab", kPlain), (Ids{6}));
  EXPECT_EQ(tokenizer->encode("  aab  ab ", kPlain), (Ids{3, 8, 6}));
  EXPECT_EQ(tokenizer->encode("a\xe4\xb8\xad\xe6\x96\x87"
                              "b",
                              kPlain),
            (Ids{3, 4, 2, 5}));
  EXPECT_EQ(tokenizer->encode("ab", {}), (Ids{6, 1}));
  EXPECT_EQ(tokenizer->decode(Ids{3, 8, 6, 1}, false), "aab ab");
}

Metadata wordpiece_metadata() {
  Metadata metadata;
  metadata.add("tokenizer.ggml.model", std::string_view("bert"));
  metadata.add("tokenizer.ggml.tokens",
               Strings{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁run", "ning", "▁!", "▁a", "▁e", "n"});
  metadata.add("tokenizer.ggml.token_type", std::vector<int64_t>{3, 3, 3, 3, 1, 1, 1, 1, 1, 1});
  metadata.add("tokenizer.ggml.unknown_token_id", int64_t{1});
  metadata.add("tokenizer.ggml.cls_token_id", int64_t{2});
  metadata.add("tokenizer.ggml.seperator_token_id", int64_t{3});
  return metadata;
}

TEST(GgufWordpieceTest, TakesTheLongestFirst) {
  const Metadata metadata = wordpiece_metadata();
  const auto tokenizer = load_tokenizer(metadata);
  EXPECT_EQ(tokenizer->encode("Running! a zz", {}), (Ids{2, 4, 5, 6, 7, 1, 3}));
  EXPECT_EQ(tokenizer->encode("\u00c9n", kPlain), (Ids{8, 9}));  // lower case, no accent
  EXPECT_EQ(tokenizer->decode(Ids{2, 4, 5, 7, 3}, false), "running a");
  const auto pair = tokenizer->encode_pair("running", "a!");
  EXPECT_EQ(pair->ids, (Ids{2, 4, 5, 3, 7, 6, 3}));
  EXPECT_EQ(pair->types, (Ids{0, 0, 0, 0, 1, 1, 1}));
}

// Data that contradict themselves: one sentence, never a crash.
void expect_refused(const std::string& key, const MetaValue& value) {
  Metadata metadata;
  bool has_replaced = false;
  const Metadata base = key.ends_with("scores") ? unigram_metadata() : bpe_metadata();
  for (const auto& [name, old] : base.entries()) {
    metadata.add(name, name == key ? value : old);
    has_replaced |= name == key;
  }
  if (!has_replaced) metadata.add(key, value);
  EXPECT_THROW(load_tokenizer(metadata), Error) << key;
}

TEST(GgufHostileTest, RefusesContradictions) {
  expect_refused("tokenizer.ggml.model", std::string_view("rwkv"));
  expect_refused("tokenizer.ggml.model", int64_t{3});
  expect_refused("tokenizer.ggml.tokens", Strings{});
  expect_refused("tokenizer.ggml.tokens", int64_t{3});
  expect_refused("tokenizer.ggml.token_type", std::vector<int64_t>{1, 1});
  expect_refused("tokenizer.ggml.scores", std::vector<double>{1, 1});
  expect_refused("tokenizer.ggml.bos_token_id", int64_t{11});
  expect_refused("tokenizer.ggml.eos_token_id", int64_t{-2});
  expect_refused("tokenizer.ggml.merges", std::vector<int64_t>{1, 2});
  EXPECT_THROW(load_tokenizer(Metadata()), Error);
}

TEST(GgufHostileTest, TakesOddData) {
  Metadata metadata;
  const std::string large(1 << 20, 'x');
  metadata.add("tokenizer.ggml.model", std::string_view("gpt2"));
  metadata.add("tokenizer.ggml.pre", std::string_view("default"));
  metadata.add("tokenizer.ggml.tokens", Strings{"", "a", "a", "\xff\xfe", "b", "ab", large, "", "\xe2\x82"});
  metadata.add("tokenizer.ggml.token_type", std::vector<int64_t>{4, 1, 3, 3, 1, 99, 1, -7, 4});
  metadata.add("tokenizer.ggml.merges",
               Strings{"", " ", "a", "a b", "a b", "zz yy", "a ", " b", "b zz", "  "});
  metadata.add("tokenizer.ggml.bos_token_id", int64_t{UINT32_MAX});
  const auto tokenizer = load_tokenizer(metadata);
  EXPECT_EQ(tokenizer->encode("ab", kPlain), (Ids{5}));
  EXPECT_EQ(tokenizer->encode("ab", kSpecial).front(),
            2);  // equal tokens: the control one is looked for first
  EXPECT_EQ(tokenizer->encode("a\xff\xe2\x82", kPlain).front(), 1);
  EXPECT_EQ(tokenizer->bos(), std::nullopt);
  for (int32_t id = -2; id < 12; ++id) tokenizer->token_bytes(id, true);
}

TEST(GgufHostileTest, RefusesTokensThatAreTooLongToLookFor) {
  const std::string large(1 << 20, 'x');
  SentencePiece file;
  Metadata metadata;
  for (const auto& [key, value] : file.metadata.entries()) {
    if (key != "tokenizer.ggml.tokens") {
      metadata.add(key, value);
      continue;
    }
    auto tokens = std::get<Strings>(value);
    tokens[8] = large;
    metadata.add(key, tokens);
  }
  EXPECT_THROW(load_tokenizer(metadata), Error);
}

}  // namespace
}  // namespace millrace
