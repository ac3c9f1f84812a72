// What a sound file gives, and that no other file gets past the reader.
#include <gtest/gtest.h>

#include <random>

#include "base/temporary_folder.h"
#include "checkpoint/check.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf/test_file.h"

namespace millrace::gguf {
namespace {

constexpr uint32_t kU8 = 0, kU16 = 2, kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9,
                   kU64 = 10;
constexpr uint32_t kTypeF32 = 0, kTypeF16 = 1, kTypeQ8_0 = 8;

// A small file with every type of value and two tensors.
FileBytes sound_file() {
  FileBytes file;
  file.header(2, 7)
      .key("general.architecture", kString)
      .string("llama")
      .key("a.bool", kBool)
      .put(uint8_t{1})
      .key("a.float", kF32)
      .put(0.5f)
      .key("a.u64", kU64)
      .u64(1ull << 40)
      .key("a.i32", kI32)
      .put(int32_t{-5})
      .array("a.strings", kString, 2)
      .string("x")
      .string("yz")
      .array("a.bytes", kU8, 3)
      .put(uint8_t{1})
      .put(uint8_t{2})
      .put(uint8_t{255})
      .tensor("first", {4, 3}, kTypeF32, 0)
      .tensor("second", {32, 2}, kTypeQ8_0, 64)
      .pad()
      .data(48)
      .pad()
      .data(68);
  return file;
}

// The sentence of the error that opening ends in; empty where there is none.
std::string sentence_of(const FileBytes& file) {
  try {
    parse_gguf(file.span(), "m.gguf");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    return error.what();
  }
  return "";
}

TEST(GgufReader, ReadsMetadataAndTensors) {
  const FileBytes file = sound_file();
  const auto checkpoint = parse_gguf(file.span(), "m.gguf");
  const Metadata& metadata = checkpoint->metadata();
  EXPECT_EQ(metadata.entries().size(), 7u);
  EXPECT_EQ(metadata.need<std::string_view>("general.architecture"), "llama");
  EXPECT_TRUE(metadata.need<bool>("a.bool"));
  EXPECT_EQ(metadata.need<double>("a.float"), 0.5);
  EXPECT_EQ(metadata.need<int64_t>("a.u64"), int64_t{1} << 40);
  EXPECT_EQ(metadata.need<int64_t>("a.i32"), -5);
  EXPECT_EQ(metadata.need<std::vector<std::string_view>>("a.strings"),
            (std::vector<std::string_view>{"x", "yz"}));
  EXPECT_EQ(metadata.need<std::vector<int64_t>>("a.bytes"), (std::vector<int64_t>{1, 2, 255}));

  ASSERT_EQ(checkpoint->tensors().size(), 2u);
  const Tensor* first = checkpoint->find("first");
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(shape_text(*first), "(3, 4) F32");
  const Tensor* second = checkpoint->find("second");
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(shape_text(*second), "(2, 32) Q8_0");
  EXPECT_EQ(second->data - first->data, 64);
  EXPECT_EQ(second->n_bytes(), 68);
  EXPECT_EQ(second->data + second->n_bytes(), file.span().data() + file.span().size());
  EXPECT_EQ(checkpoint->find("third"), nullptr);
  EXPECT_EQ(checkpoint->n_bytes(), 48 + 68);
}

TEST(GgufReader, AcceptsTheOddButLegal) {
  EXPECT_EQ(sentence_of(FileBytes().header(0, 0)), "");
  EXPECT_EQ(sentence_of(FileBytes().header(0, 0, 2)), "");
  EXPECT_EQ(sentence_of(FileBytes().header(1, 0).tensor("scalar", {}, kTypeF32, 0).pad().data(4)), "");
  EXPECT_EQ(sentence_of(FileBytes().header(1, 0).tensor("none", {0, 5}, kTypeF32, 0)), "");
  EXPECT_EQ(sentence_of(FileBytes().header(1, 0).tensor("none", {1ull << 40, 0}, kTypeF32, 0)), "");
  EXPECT_EQ(sentence_of(FileBytes()
                            .header(1, 1)
                            .key("general.alignment", kU32)
                            .u32(64)
                            .tensor("t", {1}, kTypeF32, 64)
                            .pad(64)
                            .data(64)
                            .data(4)),
            "");
  // Gaps between tensors, and tensors out of order.
  EXPECT_EQ(sentence_of(FileBytes()
                            .header(2, 0)
                            .tensor("b", {1}, kTypeF32, 96)
                            .tensor("a", {1}, kTypeF32, 0)
                            .pad()
                            .data(100)),
            "");
}

struct Hostile {
  const char* rule;
  FileBytes file;
  const char* part_of_sentence;
};

FileBytes one_tensor(std::vector<uint64_t> dims, uint32_t type, uint64_t offset = 0) {
  FileBytes file;
  file.header(1, 0).tensor("t", std::move(dims), type, offset).pad().data(256);
  return file;
}

FileBytes one_value(uint32_t type) {
  FileBytes file;
  file.header(0, 1).key("k", type);
  return file;
}

FileBytes aligned_to(uint32_t alignment) {
  FileBytes file;
  file.header(0, 1).key("general.alignment", kU32).u32(alignment);
  return file;
}

std::vector<Hostile> hostile_headers() {
  return {
      {"empty", FileBytes(), "begins with \"GGUF\", found \"\""},
      {"magic", FileBytes().raw("GGUX").u32(3), "found \"GGUX\""},
      {"magic escaped", FileBytes().raw("\x1b[1m").u32(3), "found \"\\x1b[1m\""},
      {"old magic", FileBytes().raw("tjgg").u32(3), "GGML formats"},
      {"pointer", FileBytes().raw("version https://git-lfs.github.com/spec/v1"), "Git LFS"},
      {"version 0", FileBytes().header(0, 0, 0), "found version 0"},
      {"version 1", FileBytes().header(0, 0, 1), "found version 1"},
      {"version 4", FileBytes().header(0, 0, 4), "found version 4"},
      {"big-endian", FileBytes().header(0, 0, 0x03000000), "big-endian"},
      {"entries over the file", FileBytes().header(0, 1000), "metadata entries"},
      {"entries at the limit", FileBytes().header(0, UINT64_MAX), "metadata entries"},
      {"tensors over the file", FileBytes().header(1000, 0), "tensor descriptions"},
      {"tensors at the limit", FileBytes().header(UINT64_MAX, 0), "tensor descriptions"},
      {"tensors negative", FileBytes().header(1ull << 63, 0), "tensor descriptions"},
  };
}

std::vector<Hostile> hostile_metadata() {
  return {
      {"key over the file", FileBytes().header(0, 1).u64(1ull << 40).data(20), "a metadata key of"},
      {"key wraps", FileBytes().header(0, 1).u64(UINT64_MAX).data(20), "a metadata key of"},
      {"key empty", FileBytes().header(0, 1).key("", kU8).put(uint8_t{1}).data(4), "key is empty"},
      {"key long", FileBytes().header(0, 1).key(std::string(65536, 'k'), kU8).put(uint8_t{1}), "65536 bytes"},
      {"key twice", FileBytes().header(0, 2).key("k", kU8).data(1).key("k", kU8).data(1), "occurs twice"},
      {"type unknown", one_value(13).data(9), "unknown type 13"},
      {"type huge", one_value(0xffffffff).data(9), "unknown type 4294967295"},
      {"bool of 2", one_value(kBool).put(uint8_t{2}), "boolean of 2"},
      {"string over the file", one_value(kString).u64(100).raw("x"), "a string of 100 bytes"},
      {"string wraps", one_value(kString).u64(UINT64_MAX - 3).raw("x"), "a string of"},
      {"u64 above int64", one_value(kU64).u64(1ull << 63), "above 2^63 - 1"},
      {"array type unknown", one_value(kArray).u32(99).u64(0), "unknown type 99"},
      {"array of arrays", one_value(kArray).u32(kArray).u64(1).u32(kU8).u64(0), "array of arrays"},
      {"array over the file", one_value(kArray).u32(kU32).u64(1000).u32(1), "numbers of an array"},
      {"array wraps", one_value(kArray).u32(kU64).u64(1ull << 61).u32(1), "numbers of an array"},
      {"array at the limit", one_value(kArray).u32(kU8).u64(UINT64_MAX).u32(1), "numbers of an array"},
      {"strings over the file", one_value(kArray).u32(kString).u64(1000).u64(0), "strings of an array"},
      {"strings wrap", one_value(kArray).u32(kString).u64(1).u64(UINT64_MAX), "a string of an array of"},
      {"bools over the file", one_value(kArray).u32(kBool).u64(9).data(8), "booleans of an array"},
      {"bools of 2", one_value(kArray).u32(kBool).u64(1).put(uint8_t{2}), "boolean of 2"},
      {"u64s above int64", one_value(kArray).u32(kU64).u64(1).u64(UINT64_MAX), "above 2^63 - 1"},
      {"alignment 0", aligned_to(0), "found 0"},
      {"alignment 48", aligned_to(48), "found 48"},
      {"alignment 4", aligned_to(4), "found 4"},
      {"alignment 2^31", aligned_to(1u << 31), "found 2147483648"},
      {"alignment u64", FileBytes().header(0, 1).key("general.alignment", kU64).u64(32), "found type 10"},
      {"alignment string", FileBytes().header(0, 1).key("general.alignment", kString).string("32"),
       "found type 8"},
  };
}

std::vector<Hostile> hostile_tensors() {
  return {
      {"name empty", FileBytes().header(1, 0).tensor("", {1}, 0, 0).pad().data(32),
       "name of a tensor is empty"},
      {"name long", FileBytes().header(1, 0).tensor(std::string(256, 'n'), {1}, 0, 0), "256 bytes"},
      {"name twice", FileBytes().header(2, 0).tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32).pad().data(64),
       "occurs twice"},
      {"5 dimensions", one_tensor({1, 1, 1, 1, 1}, kTypeF32), "5 dimensions"},
      {"2^32 - 1 dimensions", FileBytes().header(1, 0).string("t").u32(0xffffffff).data(64), "dimensions"},
      {"dimension negative", one_tensor({1ull << 63}, kTypeF32), "a dimension of"},
      {"elements overflow", one_tensor({1ull << 32, 1ull << 32}, kTypeF32), "too large to count"},
      {"elements overflow beside 0", one_tensor({1ull << 40, 1ull << 40, 0}, kTypeF32), "too large to count"},
      {"bytes overflow", one_tensor({1ull << 62}, kTypeF32), "too large to count"},
      {"type unknown", one_tensor({32}, 43), "unknown type 43"},
      {"type negative", one_tensor({32}, 0xffffffff), "unknown type 4294967295"},
      {"type removed", one_tensor({32}, 4), "Q4_2, long removed"},
      {"type unsupported", one_tensor({256}, 16), "IQ2_XXS (type 16), which is not supported"},
      {"type of a fork", one_tensor({256}, 139), "ik_llama.cpp"},
      {"row no multiple of the block", one_tensor({33}, kTypeQ8_0), "no multiple of the 32"},
      {"offset unaligned", one_tensor({1}, kTypeF32, 4), "no multiple of the alignment"},
      {"offset beyond", one_tensor({1}, kTypeF32, 256), "at offset 256 of the data, which has 256"},
      {"offset wraps", one_tensor({1}, kTypeF32, UINT64_MAX - 31), "of the data"},
      {"size beyond", one_tensor({65}, kTypeF32), "expected 260 bytes"},
      {"size and offset beyond", one_tensor({64}, kTypeF32, 32), "expected 256 bytes"},
      {"no data at all", FileBytes().header(1, 0).tensor("t", {1}, kTypeF32, 0), "which has 0"},
      {"overlap",
       FileBytes().header(2, 0).tensor("a", {9}, kTypeF32, 0).tensor("b", {1}, kTypeF32, 32).pad().data(64),
       "overlap"},
      {"same place",
       FileBytes().header(2, 0).tensor("a", {1}, kTypeF32, 0).tensor("b", {1}, kTypeF16, 0).pad().data(64),
       "overlap"},
  };
}

void expect_refused(const std::vector<Hostile>& rows) {
  for (const Hostile& row : rows) {
    const std::string sentence = sentence_of(row.file);
    EXPECT_NE(sentence.find(row.part_of_sentence), std::string::npos) << row.rule << ": " << sentence;
    EXPECT_EQ(sentence.find('\n'), std::string::npos) << row.rule;
  }
}

TEST(GgufReader, RefusesHostileHeaders) { expect_refused(hostile_headers()); }
TEST(GgufReader, RefusesHostileMetadata) { expect_refused(hostile_metadata()); }
TEST(GgufReader, RefusesHostileTensors) { expect_refused(hostile_tensors()); }

TEST(GgufReader, RefusesAFileCutAnywhere) {
  const FileBytes whole = sound_file();
  ASSERT_EQ(sentence_of(whole), "");
  for (size_t n = 0; n < whole.str().size(); ++n) {
    EXPECT_NE(sentence_of(FileBytes().raw(std::string_view(whole.str()).substr(0, n))), "") << n;
  }
}

// Whatever comes back is an error or a checkpoint all of whose bytes can be read.
TEST(GgufReader, SurvivesFlippedBits) {
  const std::string whole = sound_file().str();
  std::mt19937 random(1);
  int n_sound = 0;
  for (int round = 0; round < 10000; ++round) {
    std::string bytes = whole;
    const int n_flips = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < n_flips; ++i) bytes[random() % bytes.size()] ^= static_cast<char>(1u << random() % 8);
    try {
      const auto checkpoint = parse_gguf(std::as_bytes(std::span(bytes)), "m.gguf");
      check_weights(*checkpoint, {});
      ++n_sound;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    }
  }
  EXPECT_GT(n_sound, 100);   // flips in the weights and in values
  EXPECT_LT(n_sound, 9900);  // flips in counts, types and lengths
}

TEST(GgufReader, BoundsMemoryByWhatItWouldTake) {
  // 8 MiB of bytes would be 64 MiB of integers.
  const size_t n = 8 << 20;
  FileBytes file = one_value(kArray);
  file.u32(kU8).u64(n).data(n);
  EXPECT_NE(sentence_of(file).find("more than the 48 MiB"), std::string::npos);
}

TEST(GgufReader, ReadsManyKeysAndNamesInTime) {
  FileBytes keys;
  const size_t n = 200'000;
  keys.header(0, n);
  for (size_t i = 0; i < n; ++i) keys.key(std::to_string(i), kU8).put(uint8_t{0});
  EXPECT_EQ(sentence_of(keys), "");
  FileBytes tensors;
  tensors.header(n, 0);
  for (size_t i = 0; i < n; ++i) tensors.tensor(std::to_string(i), {0}, kTypeF32, 0);
  EXPECT_EQ(sentence_of(tensors), "");
}

TEST(GgufReader, RefusesWhatIsNoRegularFile) {
  EXPECT_THROW(open_gguf("/"), Error);
  EXPECT_THROW(open_gguf("/dev/zero"), Error);
  EXPECT_THROW(open_gguf("/no/such/file.gguf"), Error);
}

// File `index` of `count`, with one tensor of its own name, or of `tensor`.
FileBytes piece(uint16_t index, uint16_t count, int32_t n_tensors, std::string_view tensor = {}) {
  FileBytes file;
  const std::string name = tensor.empty() ? "t" + std::to_string(index) : std::string(tensor);
  file.header(1, 3)
      .key("split.no", kU16)
      .put(index)
      .key("split.count", kU16)
      .put(count)
      .key("split.tensors.count", kI32)
      .put(n_tensors)
      .tensor(name, {2}, kTypeF32, 0)
      .pad()
      .data(8);
  return file;
}

class GgufSplit : public testing::Test {
 protected:
  std::string open_first() {
    try {
      n_tensors_ = open_gguf(folder_.path() / "m-00001-of-00003.gguf")->tensors().size();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  void write(int number, const FileBytes& file) {
    folder_.write("m-0000" + std::to_string(number) + "-of-00003.gguf", file.str());
  }
  void SetUp() override {
    for (int i = 0; i < 3; ++i) write(i + 1, piece(static_cast<uint16_t>(i), 3, 3));
  }

  TemporaryFolder folder_;
  size_t n_tensors_ = 0;
};

TEST_F(GgufSplit, OpensAllFiles) {
  EXPECT_EQ(open_first(), "");
  EXPECT_EQ(n_tensors_, 3u);
}

TEST_F(GgufSplit, NamesTheFirstFileWhenAnotherIsGiven) {
  try {
    open_gguf(folder_.path() / "m-00002-of-00003.gguf");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("give the first, m-00001-of-00003.gguf"), std::string::npos);
  }
}

TEST_F(GgufSplit, RefusesFilesThatDisagree) {
  write(2, piece(2, 3, 3));
  EXPECT_NE(open_first().find("expected file 2 of 3"), std::string::npos);
  write(2, piece(1, 4, 3));
  EXPECT_NE(open_first().find("expected file 2 of 3"), std::string::npos);
  write(2, piece(1, 3, 3, "t0"));
  EXPECT_NE(open_first().find("\"t0\" occurs twice"), std::string::npos);
  std::filesystem::remove(folder_.path() / "m-00002-of-00003.gguf");
  EXPECT_NE(open_first().find("m-00002-of-00003.gguf"), std::string::npos);
}

TEST_F(GgufSplit, RefusesCountsThatLie) {
  write(1, piece(0, 3, 4));
  EXPECT_NE(open_first().find("expected 4 tensors"), std::string::npos);
  write(1, piece(0, 2, 3));
  EXPECT_NE(open_first().find("-00001-of-00002.gguf"), std::string::npos);
  write(1, piece(3, 3, 3));
  EXPECT_NE(open_first().find("split.no 3 and split.count 3"), std::string::npos);
}

}  // namespace
}  // namespace millrace::gguf
