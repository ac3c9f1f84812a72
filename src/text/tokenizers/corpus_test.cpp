// Published vocabularies and the ids that their own tokenizers give for a list of texts.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/file.h"
#include "checkpoint/gguf.h"
#include "text/tokenizer.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

const fs::path kCorpus = fs::path(MILLRACE_DATA_DIR) / "corpus";

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::vector<std::string> texts_of(const std::string& file) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  size_t at = 0;
  for (size_t found = file.find(separator); found != std::string::npos; found = file.find(separator, at)) {
    texts.push_back(file.substr(at, found - at));
    at = found + separator.size();
  }
  texts.push_back(file.substr(at));
  return texts;
}

std::vector<int32_t> ids_of(const std::string& line) {
  std::istringstream stream(line);
  std::vector<int32_t> ids;
  for (int32_t id; stream >> id;) ids.push_back(id);
  return ids;
}

// `archive`.xz, unpacked; the name is the process's own.
std::string unpack(const fs::path& archive) {
  const fs::path out = fs::path(testing::TempDir()) / ("tokenizer_corpus." + std::to_string(getpid()));
  const std::string command = "xz -dc '" + archive.string() + "' > '" + out.string() + "'";
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
  std::string content = read_file(out, size_t{1} << 30);
  fs::remove(out);
  return content;
}

std::unique_ptr<Tokenizer> from_json(const std::string& name) {
  const Json json =
      Json::parse(unpack(kCorpus / "tokenizers" / name / "tokenizer.json.xz"), "tokenizer.json");
  return load_tokenizer_json(json, Json());
}

void expect_corpus(const Tokenizer& tokenizer, const std::string& name) {
  const auto texts = texts_of(read_file(kCorpus / "vocabs" / (name + ".inp"), 1 << 20));
  const auto lines = lines_of(read_file(kCorpus / "vocabs" / (name + ".out"), 1 << 20));
  ASSERT_GE(lines.size(), 46u);
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto ids = tokenizer.encode(texts[i], {.add_special = false});
    EXPECT_EQ(ids, ids_of(lines[i])) << name << ", text " << i << ": " << texts[i];
  }
}

class CorpusTest : public testing::TestWithParam<const char*> {
  void SetUp() override {
    if (!fs::exists(kCorpus / "vocabs")) GTEST_SKIP() << "needs the vocabularies in " << kCorpus;
  }
};

using GgufCorpusTest = CorpusTest;
TEST_P(GgufCorpusTest, GivesTheOriginalIds) {
  const std::string file = unpack(kCorpus / "vocabs" / (std::string(GetParam()) + ".gguf.xz"));
  const auto checkpoint = parse_gguf(std::as_bytes(std::span(file)), GetParam());
  expect_corpus(*load_tokenizer(checkpoint->metadata()), GetParam());
}
INSTANTIATE_TEST_SUITE_P(Vocabs, GgufCorpusTest,
                         testing::Values("bert-bge", "deepseek-coder", "deepseek-llm", "falcon", "gpt-2",
                                         "llama-spm", "phi-3", "refact", "starcoder"));

using JsonCorpusTest = CorpusTest;
TEST_P(JsonCorpusTest, GivesTheOriginalIds) {
  const std::string name = GetParam();
  expect_corpus(*from_json(name == "llama-bpe" ? "llama3_1" : "qwen3"), name);
}
INSTANTIATE_TEST_SUITE_P(Tokenizers, JsonCorpusTest,
                         testing::Values("llama-bpe", "qwen2", "deepseek-r1-qwen"));

}  // namespace
}  // namespace millrace
