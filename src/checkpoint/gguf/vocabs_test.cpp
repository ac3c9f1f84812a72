// The published vocabulary-only files of the corpus.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "base/temporary_folder.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf/test_file.h"

namespace millrace::gguf {
namespace {

const std::filesystem::path kVocabs = std::filesystem::path(MILLRACE_DATA_DIR) / "corpus" / "vocabs";

struct Vocab {
  const char* file;
  const char* architecture;
  const char* tokenizer;
  size_t n_tokens;
};

// What the gguf package from PyPI reads in them.
constexpr Vocab kFiles[] = {
    {"bert-bge.gguf", "bert", "bert", 30522},        {"deepseek-coder.gguf", "llama", "gpt2", 32256},
    {"deepseek-llm.gguf", "llama", "gpt2", 102400},  {"falcon.gguf", "falcon", "gpt2", 65024},
    {"gpt-2.gguf", "gpt2", "gpt2", 50257},           {"llama-spm.gguf", "llama", "llama", 32000},
    {"phi-3.gguf", "phi3", "llama", 32064},          {"refact.gguf", "refact", "gpt2", 49216},
    {"starcoder.gguf", "starcoder2", "gpt2", 49152},
};

class GgufVocabs : public testing::TestWithParam<Vocab> {};

TEST_P(GgufVocabs, AreReadAndWrittenBack) {
  const std::filesystem::path packed = kVocabs / (std::string(GetParam().file) + ".xz");
  if (!std::filesystem::exists(packed)) GTEST_SKIP() << "needs corpus/vocabs in " << MILLRACE_DATA_DIR;
  if (std::system("xz --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "needs the program xz";
  const TemporaryFolder folder;
  const auto path = folder.path() / GetParam().file;
  ASSERT_EQ(std::system(("xz -dc '" + packed.string() + "' > '" + path.string() + "'").c_str()), 0);

  const auto checkpoint = open_gguf(path);
  const Metadata& metadata = checkpoint->metadata();
  EXPECT_EQ(metadata.need<std::string_view>("general.architecture"), GetParam().architecture);
  EXPECT_EQ(metadata.need<std::string_view>("tokenizer.ggml.model"), GetParam().tokenizer);
  EXPECT_EQ(metadata.need<std::vector<std::string_view>>("tokenizer.ggml.tokens").size(),
            GetParam().n_tokens);
  EXPECT_TRUE(checkpoint->tensors().empty());

  write_gguf(folder.path() / "again.gguf", *checkpoint);
  const auto again = open_gguf(folder.path() / "again.gguf");
  EXPECT_TRUE(std::ranges::equal(again->metadata().entries(), metadata.entries()));
}

INSTANTIATE_TEST_SUITE_P(All, GgufVocabs, testing::ValuesIn(kFiles), [](const auto& row) {
  std::string name(row.param.file);
  std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
  return name;
});

}  // namespace
}  // namespace millrace::gguf
