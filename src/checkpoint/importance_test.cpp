#include "checkpoint/importance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/file.h"
#include "base/temporary_folder.h"
#include "checkpoint/gguf.h"

namespace millrace {
namespace {

class ImportanceFile : public ::testing::Test {
 protected:
  std::string sentence_of(const std::string& bytes) {
    write_file_atomically(path_, bytes);
    try {
      const Importance importance(path_);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_model);
      return error.what();
    }
    return {};
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "importance";
};

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// The older form: means times calls.
std::string dat(float value, float other = 2.0f) {
  std::string out;
  put<int32_t>(out, 1);
  put<int32_t>(out, 3);
  out += "w.q";
  put<int32_t>(out, 4);  // calls
  put<int32_t>(out, 2);  // values
  put<float>(out, value);
  put<float>(out, other);
  put<int32_t>(out, 7);  // chunks
  put<int32_t>(out, 5);
  return out + "a.txt";
}

TEST_F(ImportanceFile, KeepsMeansOfEachExpert) {
  MeasuredImportance measured{.dataset = "text", .n_chunks = 3, .chunk_tokens = 512};
  measured.weights["a.weight"] = {.squares = {8.0, 2.0}, .counts = {4}};
  measured.weights["e.weight"] = {.squares = {6.0, 3.0, 0.0, 0.0}, .counts = {3, 0}};
  write_importance(path_, measured);
  const Importance read(path_);
  const auto equals = [](std::span<const float> found, std::vector<float> expected) {
    return std::ranges::equal(found, expected);
  };
  EXPECT_TRUE(equals(read.find("a.weight"), {2.0f, 0.5f}));
  EXPECT_TRUE(equals(read.find("e.weight"), {2.0f, 1.0f, 1.0f, 1.0f}));  // no row reached the second
  EXPECT_TRUE(read.find("b.weight").empty());
  EXPECT_EQ(read.dataset(), "text");
  EXPECT_EQ(read.n_chunks(), 3);
}

// Names and shapes are what llama.cpp reads.
TEST_F(ImportanceFile, IsLlamaCppsForm) {
  MeasuredImportance measured{.dataset = "text", .n_chunks = 3, .chunk_tokens = 512};
  measured.weights["e.weight"] = {.squares = {6.0, 3.0, 1.0, 5.0, 2.0, 2.0}, .counts = {3, 1}};
  write_importance(path_, measured);
  const auto file = open_gguf(path_);
  EXPECT_EQ(file->metadata().need<std::string_view>("general.type"), "imatrix");
  EXPECT_EQ(file->metadata().need<int64_t>("imatrix.chunk_size"), 512);
  const Tensor *sums = file->find("e.weight.in_sum2"), *counts = file->find("e.weight.counts");
  ASSERT_TRUE(sums != nullptr && counts != nullptr);
  EXPECT_EQ(shape_text(*sums), "(2, 3) F32");
  EXPECT_EQ(shape_text(*counts), "(2, 1) F32");
  EXPECT_EQ(sums->f32()[4], 2.0f);
  EXPECT_EQ(counts->f32()[1], 1.0f);
}

TEST_F(ImportanceFile, ReadsTheOlderForm) {
  write_file_atomically(path_, dat(10.0f));
  const Importance read(path_);
  ASSERT_EQ(read.find("w.q").size(), 2u);
  EXPECT_EQ(read.find("w.q")[0], 2.5f);
  EXPECT_EQ(read.find("w.q")[1], 0.5f);
  EXPECT_EQ(read.dataset(), "a.txt");
  EXPECT_EQ(read.n_chunks(), 7);
}

TEST_F(ImportanceFile, WritesTheOlderForm) {
  MeasuredImportance measured{.dataset = "a.txt", .n_chunks = 7, .chunk_tokens = 2};
  measured.weights["w.q"] = {.squares = {20.0, 16.0}, .counts = {8}};
  const std::filesystem::path path = folder_.path() / "importance.dat";
  write_importance(path, measured);
  EXPECT_EQ(read_file(path, 1000), dat(10.0f, 8.0f));
  measured.weights["w.q"] = {.squares = {6.0, 3.0, 0.0, 0.0}, .counts = {3, 0}};
  write_importance(path, measured);
  const Importance read(path);
  EXPECT_TRUE(std::ranges::equal(read.find("w.q"), std::vector<float>{2.0f, 1.0f, 1.0f, 1.0f}));
  EXPECT_EQ(read.n_chunks(), 7);
}

TEST_F(ImportanceFile, RefusesBrokenFiles) {
  const std::string whole = dat(10.0f);
  EXPECT_EQ(sentence_of(whole), "");
  for (size_t n = 0; n < whole.size(); ++n) {
    const bool is_old = n == whole.size() - 13;  // very old files end after the values
    EXPECT_EQ(sentence_of(whole.substr(0, n)).empty(), is_old || n == whole.size() - 9) << n;
  }
  for (const size_t at : {0, 4, 11, 15}) {
    for (const int32_t value : {-1, INT32_MAX}) {
      std::string broken = whole;
      std::memcpy(broken.data() + at, &value, sizeof value);
      const bool is_sound = at == 11 && value > 0;  // many calls
      EXPECT_EQ(sentence_of(broken).empty(), is_sound) << at << " " << value;
    }
  }
  EXPECT_NE(sentence_of(dat(-1.0f)), "");
  EXPECT_NE(sentence_of(dat(std::numeric_limits<float>::quiet_NaN())), "");
  EXPECT_NE(sentence_of("GGUF"), "");
}

TEST_F(ImportanceFile, RefusesSumsWithoutCounts) {
  std::vector<float> sums = {1.0f, 2.0f};
  const std::vector<NamedTensor> tensors = {{"w.in_sum2", Tensor(sums.data(), Dtype::f32, {1, 2})}};
  Metadata metadata;
  const auto bytes_of = [&](size_t) { return std::as_bytes(std::span(sums)); };
  write_gguf(path_, {.metadata = metadata, .tensors = tensors, .bytes_of = bytes_of});
  EXPECT_THROW(Importance{path_}, Error);  // no importance matrix
  metadata.add("general.type", std::string_view("imatrix"));
  write_gguf(path_, {.metadata = metadata, .tensors = tensors, .bytes_of = bytes_of});
  EXPECT_THROW(Importance{path_}, Error);
}

}  // namespace
}  // namespace millrace
