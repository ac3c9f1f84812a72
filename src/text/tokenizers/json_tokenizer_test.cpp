// What tests/tokenizers_oracle.py cannot ask the original: refusals, the configuration, control tokens. And
// the parts of the format once each, so that they are tested where Python is not.
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/tokenizer.h"

namespace millrace {
namespace {

using Ids = std::vector<int32_t>;

// A WordLevel model over pieces that the steps under test make; unknown pieces are 0.
std::unique_ptr<Tokenizer> load(const std::string& parts, const std::string& config = "null") {
  const std::string text = R"({"added_tokens": [], "model": {"type": "WordLevel", "unk_token": "?",
    "vocab": {"?": 0, "a": 1, "b": 2, " ": 3, "▁a": 4, "▁b": 5, "1": 6, "22": 7, ".": 8, "ab": 9, "<s>": 10}})" +
                           (parts.empty() ? "" : ", " + parts) + "}";
  return load_tokenizer_json(Json::parse(text, "tokenizer.json"), Json::parse(config, "config"));
}

Ids encode(const std::string& parts, std::string_view text) {
  return load(parts)->encode(text, {.add_special = true, .parse_special = true});
}

TEST(JsonTokenizerTest, Splits) {
  EXPECT_EQ(encode(R"("pre_tokenizer": {"type": "WhitespaceSplit"})", " a  b\n"), (Ids{1, 2}));
  EXPECT_EQ(encode(R"("pre_tokenizer": {"type": "Whitespace"})", "a. b"), (Ids{1, 8, 2}));
  EXPECT_EQ(encode(R"("pre_tokenizer": {"type": "Metaspace", "replacement": "▁"})", "a b"), (Ids{4, 5}));
  EXPECT_EQ(encode(R"("pre_tokenizer": {"type": "Digits", "individual_digits": false})", "a1b22"),
            (Ids{1, 6, 2, 7}));
  EXPECT_EQ(encode(R"("pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Punctuation"},
      {"type": "Split", "pattern": {"String": " "}, "behavior": "Removed", "invert": false}]})",
                   "a .b"),
            (Ids{1, 8, 2}));
}

TEST(JsonTokenizerTest, Normalizes) {
  EXPECT_EQ(encode(R"("normalizer": {"type": "Lowercase"})", "AB"), (Ids{9}));
  EXPECT_EQ(encode(R"("normalizer": {"type": "Strip"})", "  a "), (Ids{1}));
  EXPECT_EQ(encode(R"("normalizer": {"type": "Prepend", "prepend": "a"})", "b"), (Ids{9}));
  EXPECT_EQ(
      encode(R"("normalizer": {"type": "Replace", "pattern": {"Regex": "x+"}, "content": "a"})", "xxxb"),
      (Ids{9}));
  EXPECT_EQ(
      encode(
          R"("normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]})",
          "\u00e1"
          "b"),
      (Ids{9}));
}

TEST(JsonTokenizerTest, AppliesTheTemplate) {
  const auto tokenizer = load(R"("post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [10], "tokens": ["<s>"]}}})");
  EXPECT_EQ(tokenizer->encode("a", {}), (Ids{10, 1}));
  EXPECT_EQ(tokenizer->encode("a", {.add_special = false}), (Ids{1}));
}

TEST(JsonTokenizerTest, ReadsTheConfiguration) {
  const auto tokenizer =
      load("", R"({"bos_token": "<s>", "eos_token": {"content": "b"}, "add_bos_token": true})");
  EXPECT_EQ(tokenizer->bos(), 10);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_EQ(tokenizer->encode("a", {}), (Ids{10, 1}));
  EXPECT_EQ(Ids(tokenizer->end_tokens().begin(), tokenizer->end_tokens().end()), (Ids{2}));
}

TEST(JsonTokenizerTest, ControlTextStaysTextUnlessAskedFor) {
  const std::string text = R"({"added_tokens": [{"id": 3, "content": "<s>", "special": true},
      {"id": 4, "content": "<t>", "special": false, "normalized": false}],
      "model": {"type": "BPE", "vocab": {"a": 0, "<": 1, "s": 2, ">": 5, "t": 6}, "merges": []}})";
  const auto tokenizer = load_tokenizer_json(Json::parse(text, "tokenizer.json"), Json());
  EXPECT_EQ(tokenizer->encode("<s>a<t>", {.parse_special = true}), (Ids{3, 0, 4}));
  EXPECT_EQ(tokenizer->encode("<s>a<t>", {.parse_special = false}), (Ids{1, 2, 5, 0, 4}));
  EXPECT_EQ(tokenizer->decode(Ids{3, 0, 4}, false), "a <t>");
}

TEST(JsonTokenizerTest, FramesPairs) {
  const auto pair = [](const std::string& parts) { return load(parts)->encode_pair("a", "b"); };
  const auto bert =
      pair(R"("post_processor": {"type": "BertProcessing", "sep": ["x", 2], "cls": ["x", 10]})");
  EXPECT_EQ(bert->ids, (Ids{10, 1, 2, 2, 2}));
  EXPECT_EQ(bert->types, (Ids{0, 0, 0, 1, 1}));
  const auto roberta =
      pair(R"("post_processor": {"type": "RobertaProcessing", "sep": ["x", 2], "cls": ["x", 10]})");
  EXPECT_EQ(roberta->ids, (Ids{10, 1, 2, 2, 2, 2}));
  EXPECT_EQ(roberta->types, Ids(6, 0));
  const auto custom = pair(R"("post_processor": {"type": "TemplateProcessing",
      "single": [{"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "x", "type_id": 2}},
               {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"x": {"id": "x", "ids": [10], "tokens": ["x"]}}})");
  EXPECT_EQ(custom->ids, (Ids{2, 10, 1}));
  EXPECT_EQ(custom->types, (Ids{1, 2, 0}));
  EXPECT_FALSE(pair(""));
}

void expect_refused(const std::string& parts) { EXPECT_THROW(load(parts), Error) << parts; }

TEST(JsonTokenizerTest, RefusesWhatItDoesNotKnow) {
  expect_refused(R"("pre_tokenizer": {"type": "Sentences"})");
  expect_refused(R"("pre_tokenizer": {"type": "UnicodeScripts"})");
  expect_refused(R"("normalizer": {"type": "Rot13"})");
  expect_refused(R"("decoder": {"type": "Sequence", "decoders": [{"type": "X"}]})");
  expect_refused(R"("post_processor": {"type": "Y"})");
  expect_refused(R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"})");
  expect_refused(R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Sideways"})");
  expect_refused(R"("normalizer": {"type": "Precompiled", "precompiled_charsmap": "////////"})");
  expect_refused(R"("normalizer": {"type": "Precompiled", "precompiled_charsmap": "*"})");
  expect_refused(R"("normalizer": 3)");
  expect_refused(R"("normalizer": {})");
  expect_refused(R"("post_processor": {"type": "BertProcessing", "sep": ["x", 99], "cls": ["x", 1]})");
}

void expect_file_refused(const std::string& text) {
  EXPECT_THROW(load_tokenizer_json(Json::parse(text, "tokenizer.json"), Json()), Error) << text;
}

TEST(JsonTokenizerTest, RefusesContradictions) {
  expect_file_refused("{}");
  expect_file_refused("[]");
  expect_file_refused(R"({"model": {"type": "Other", "vocab": {}}})");
  expect_file_refused(R"({"model": {"type": "BPE", "vocab": {"a": 2147483648}, "merges": []}})");
  expect_file_refused(R"({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}})");
  expect_file_refused(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}})");
  expect_file_refused(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b c"]}})");
  expect_file_refused(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.5}})");
  expect_file_refused(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "u"}})");
  expect_file_refused(R"({"model": {"type": "Unigram", "vocab": [["a", 0.5]], "unk_id": 7}})");
  expect_file_refused(R"({"model": {"type": "Unigram", "vocab": [["a"]], "unk_id": 0}})");
  expect_file_refused(R"({"model": {"type": "WordPiece", "vocab": {"a": 0}}})");
  expect_file_refused(R"({"model": {"type": "WordLevel", "vocab": {"u": 0}, "unk_token": "u"},
      "added_tokens": [{"id": 4194304, "content": "x"}]})");
}

// Each of these could take quadratic time.
TEST(JsonTokenizerTest, AMegabyteTakesNoTime) {
  const std::string letters(1 << 20, 'a'), spaces(1 << 20, ' ');
  for (const char* pattern : {R"(\s+$)", R"(\s?[a-z]+)", R"(\s*[\r\n]+|\s+(?!\S)|\s+)"}) {
    const auto tokenizer = load(
        std::string(R"("pre_tokenizer": {"type": "Split", "behavior": "Isolated", "pattern": {"Regex": )") +
        Json(pattern).dump() + "}}");
    EXPECT_GE(tokenizer->encode(letters + "b", {}).size(), 1u);
    EXPECT_GE(tokenizer->encode(spaces + "b", {}).size(), 1u);
  }
  std::string marks = "a";
  for (int i = 0; i < 1 << 18; ++i) marks += i % 2 == 0 ? "\u0301" : "\u0316";
  EXPECT_EQ(encode(R"("normalizer": {"type": "NFC"})", marks).size(), 1u);
  const std::string added = R"({"added_tokens": [{"id": 1, "content": ")" + std::string(400, 'a') + R"(b"}],
      "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0}}})";
  EXPECT_EQ(load_tokenizer_json(Json::parse(added, "tokenizer.json"), Json())->encode(letters, {}), (Ids{0}));
}

}  // namespace
}  // namespace millrace
