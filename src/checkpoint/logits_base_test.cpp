#include "checkpoint/logits_base.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/temporary_folder.h"

namespace millrace {
namespace {

constexpr ScoredWindows kWindows{.n_ctx = 6, .n_vocab = 5, .n_windows = 2};

class LogitsBaseFile : public ::testing::Test {
 protected:
  void SetUp() override {
    const int32_t tokens[] = {0, 1, 2, 3, 4, 0, 4, 3, 2, 1, 0, 4};
    LogitsBaseWriter writer(path_, kWindows, tokens);
    for (int row = 0; row < 4; ++row) {
      const std::vector<float> log_probs = {-1.0f * row, -2.0f, -3.0f, -0.5f, -40.0f};
      rows_.push_back(log_probs);
      writer.add(log_probs);
    }
    writer.commit();
    bytes_ = read_file(path_, 1 << 20);
  }

  std::string sentence_of(const std::string& bytes) {
    const auto path = folder_.path() / "broken";
    write_file_atomically(path, bytes);
    try {
      const LogitsBase base(path);
      std::vector<float> row(5);
      base.read(0, 0, row);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_model);
      return error.what();
    }
    return {};
  }

  std::string with_number(size_t at, int32_t value) {
    std::string bytes = bytes_;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    return bytes;
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "base";
  std::vector<std::vector<float>> rows_;
  std::string bytes_;
};

TEST_F(LogitsBaseFile, GivesBackWhatWasSaved) {
  // llama.cpp's form: head, tokens, and rows of two floats and an even number of uint16.
  EXPECT_EQ(bytes_.size(), 8 + 12 + 12 * 4 + 4 * (8 + 6 * 2));
  const LogitsBase base(path_);
  EXPECT_EQ(base.windows().n_scored(), 2);
  EXPECT_EQ(base.tokens()[6], 4);
  for (int64_t row = 0; row < 4; ++row) {
    std::vector<float> read(5);
    base.read(row / 2, row % 2, read);
    const std::vector<float>& saved = rows_[static_cast<size_t>(row)];
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(read[i], saved[i], 16.0 / 65535);
    // What is less than e^-16 of the likeliest is raised to that.
    EXPECT_NEAR(read[4], *std::max_element(saved.begin(), saved.end()) - 16.0f, 1e-3);
  }
}

TEST_F(LogitsBaseFile, RefusesBrokenFiles) {
  EXPECT_EQ(sentence_of(bytes_), "");
  for (const size_t n : {size_t{0}, size_t{7}, size_t{19}, size_t{40}, bytes_.size() - 1})
    EXPECT_NE(sentence_of(bytes_.substr(0, n)), "") << n;
  EXPECT_NE(sentence_of(bytes_ + "x"), "");
  EXPECT_NE(sentence_of("_logitz_" + bytes_.substr(8)), "");
  for (const size_t at : {8, 12, 16}) {
    for (const int32_t value : {0, -1, 3, 1 << 24, INT32_MAX})
      EXPECT_NE(sentence_of(with_number(at, value)), "");
  }
  EXPECT_NE(sentence_of(with_number(20, 5)), "");                // a token outside of the vocabulary
  EXPECT_NE(sentence_of(with_number(20 + 48, 0x7fc00000)), "");  // NaN as the scale
}

}  // namespace
}  // namespace millrace
