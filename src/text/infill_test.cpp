#include "text/infill.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace millrace {
namespace {

using Ids = std::vector<int32_t>;

// a to d are 0 to 3, the end of a line 4; then the control tokens.
std::unique_ptr<Tokenizer> tokenizer_with(Metadata& metadata, std::vector<std::string_view> control) {
  std::vector<std::string_view> tokens{"a", "b", "c", "d", "Ċ"};
  std::vector<int64_t> types(tokens.size(), 1);
  tokens.insert(tokens.end(), control.begin(), control.end());
  types.resize(tokens.size(), 3);
  metadata.add("tokenizer.ggml.model", std::string_view("gpt2"));
  metadata.add("tokenizer.ggml.pre", std::string_view("gpt-2"));
  metadata.add("tokenizer.ggml.tokens", tokens);
  metadata.add("tokenizer.ggml.token_type", types);
  metadata.add("tokenizer.ggml.merges", std::vector<std::string_view>{});
  return load_tokenizer(metadata);
}

TEST(Infill, AsTheModelWasTrained) {
  Metadata metadata;
  const auto tokenizer = tokenizer_with(
      metadata, {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>", "<|fim_pad|>"});
  const auto prompt = encode_infill(*tokenizer, {.prefix = "a", .suffix = "bb", .begun = "c", .files = {}});
  ASSERT_TRUE(prompt);
  EXPECT_EQ(prompt->ids, (Ids{5, 0, 6, 1, 1, 7, 2}));
  EXPECT_EQ(prompt->end_tokens, (Ids{8, 9}));
  const auto with_files = encode_infill(
      *tokenizer, {.prefix = "a", .suffix = "", .begun = "", .files = {{.name = "d", .text = "b"}}});
  EXPECT_EQ(with_files->ids, (Ids{8, 3, 4, 1, 4, 5, 0, 6, 7}));
}

TEST(Infill, TextIsNoControlToken) {
  Metadata metadata;
  const auto tokenizer = tokenizer_with(metadata, {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"});
  const auto prompt =
      encode_infill(*tokenizer, {.prefix = "<fim_middle>", .suffix = "", .begun = "", .files = {}});
  EXPECT_EQ(std::ranges::count(prompt->ids, 7), 1);
}

TEST(Infill, NotOfAnyModel) {
  Metadata metadata;
  const auto tokenizer = tokenizer_with(metadata, {"<fim_prefix>", "<fim_suffix>"});
  EXPECT_FALSE(encode_infill(*tokenizer, {.prefix = "a", .suffix = "b", .begun = "", .files = {}}));
}

}  // namespace
}  // namespace millrace
