#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/temporary_folder.h"
#include "checkpoint/gguf/test_file.h"

namespace millrace {
namespace {

std::string file_of(std::string_view header, size_t n_data) {
  gguf::FileBytes file;
  file.string(header).data(n_data);
  return file.str();
}

NamedList<SafetensorsTensor> parse(std::string_view file) {
  return parse_safetensors(std::as_bytes(std::span(file)), "m.safetensors");
}

template <class Call>
std::string sentence_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    return error.what();
  }
  return "";
}

std::string sentence_of_header(std::string_view header, size_t n_data) {
  const std::string file = file_of(header, n_data);
  return sentence_of([&file] { parse(file); });
}

constexpr std::string_view kSound = R"({"__metadata__":{"format":"pt"},)"
                                    R"("b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                                    R"("a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                                    R"("none":{"dtype":"F16","shape":[0,7],"data_offsets":[16,16]}}   )";

TEST(Safetensors, ReadsTensorsInTheOrderOfTheHeader) {
  const std::string file = file_of(kSound, 16);
  const auto list = parse(file);
  const auto tensors = list.all();
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors[0].name, "b");
  EXPECT_EQ(tensors[0].dtype, "BF16");
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(tensors[0].bytes.size(), 12u);
  EXPECT_EQ(tensors[0].bytes.data(), std::as_bytes(std::span(file)).data() + 8 + kSound.size() + 4);
  EXPECT_TRUE(tensors[1].shape.empty());
  EXPECT_EQ(tensors[2].bytes.size(), 0u);
}

TEST(Safetensors, AcceptsTheOddButLegal) {
  EXPECT_EQ(sentence_of_header("{}", 0), "");
  EXPECT_EQ(sentence_of_header(R"({"__metadata__":{}})", 0), "");
  EXPECT_EQ(sentence_of_header(R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1), "");
  EXPECT_EQ(sentence_of_header(R"({"t":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", 1), "");
  EXPECT_EQ(sentence_of_header(R"({"t":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", 3), "");
  EXPECT_EQ(sentence_of_header(R"({"t":{"data_offsets":[0,1],"shape":[1,1,1,1,1,1,1,1],"dtype":"I8"}})", 1),
            "");
}

struct Hostile {
  std::string_view header;
  size_t n_data;
  const char* part_of_sentence;
};

constexpr Hostile kHostile[] = {
    {"", 0, "begins with a brace"},
    {"[]", 0, "begins with a brace"},
    {" {}", 0, "begins with a brace"},
    {"{", 0, "no valid JSON"},
    {"{}x", 0, "no valid JSON"},
    {std::string_view("{}\0x", 4), 0, "no valid JSON"},
    {"{\"t\xff\":1}", 0, "no valid JSON"},
    {R"({"t":1})", 0, "expected an object for \"t\""},
    {R"({"t":[]})", 0, "expected an object for \"t\""},
    {R"({"t":{}})", 0, "expected \"dtype\", \"shape\""},
    {R"({"__metadata__":{"a":1}})", 0, "only strings"},
    {R"({"__metadata__":{"a":{}}})", 0, "only strings"},
    {R"({"__metadata__":[]})", 0, "expected an object"},
    {R"({"__metadata__":{},"__metadata__":{}})", 0, "occurs twice"},
    {R"({"__metadata__":{"a":"","a":""}})", 0, "occurs twice"},
    {R"({"t":{"dtype":"U8","shape":[1]}})", 1, "expected \"dtype\""},
    {R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1, "two \"data_offsets\""},
    {R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}})", 1, "at most 2 numbers"},
    {R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1}})", 1, "under \"more\""},
    {R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":{}}})", 1, "under \"more\""},
    {R"({"t":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1,
     "\"dtype\" of tensor \"t\" occurs twice"},
    {R"({"t":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", 1,
     "\"shape\" of tensor \"t\" occurs twice"},
    {R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1]}})", 1,
     "\"data_offsets\" of tensor \"t\" occurs twice"},
    {R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
     2, "the tensor name \"t\" occurs twice"},
    {R"({"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\u0074":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
     0, "the tensor name \"t\" occurs twice"},
    {R"({"t":{"dtype":"Q8","shape":[1],"data_offsets":[0,1]}})", 1, "unknown dtype \"Q8\""},
    {R"({"t":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", 1, "found 8 under \"dtype\""},
    {R"({"t":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "found -1 under \"shape\""},
    {R"({"t":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1, "found 1.0 under \"shape\""},
    {R"({"t":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}})", 1, "under \"shape\""},
    {R"({"t":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", 1, "nests deeper"},
    {R"({"t":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})", 1, "found 1 under \"shape\""},
    {R"({"t":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1, "at most 8 numbers"},
    {R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1, "expected bytes 1 to 0"},
    {R"({"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 1, "expected bytes 0 to 2"},
    {R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[9223372036854775807,9223372036854775807]}})", 1,
     "expected bytes"},
    {R"({"t":{"dtype":"U8","shape":[2],"data_offsets":[0,1]}})", 1, "need another size"},
    {R"({"t":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", 1, "need another size"},
    {R"({"t":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "need another size"},
    {R"({"t":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}})", 0,
     "need another size"},
    {R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 2, "1 bytes after the last tensor"},
    {R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, "does not begin where"},
    {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
     3, "does not begin where"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
     3, "does not begin where"},
    {"{}", 1, "1 bytes after the last tensor"},
};

TEST(Safetensors, RefusesHostileHeaders) {
  for (const Hostile& row : kHostile) {
    const std::string sentence = sentence_of_header(row.header, row.n_data);
    EXPECT_NE(sentence.find(row.part_of_sentence), std::string::npos) << row.header << ": " << sentence;
  }
}

TEST(Safetensors, RefusesHeaderLengthsThatLie) {
  for (const uint64_t n : {uint64_t{3}, uint64_t{100'000'001}, uint64_t{1} << 63, UINT64_MAX}) {
    gguf::FileBytes file;
    file.u64(n).raw("{}");
    EXPECT_NE(sentence_of([&] { parse(file.str()); }).find("expected a header of"), std::string::npos) << n;
  }
  EXPECT_NE(sentence_of([] { parse("1234567"); }).find("only 7 bytes"), std::string::npos);
}

TEST(Safetensors, RefusesAFileCutAnywhere) {
  const std::string whole = file_of(kSound, 16);
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_NE(sentence_of([&] { parse(std::string_view(whole).substr(0, n)); }), "") << n;
  }
}

TEST(Safetensors, SurvivesFlippedBits) {
  const std::string whole = file_of(kSound, 16);
  std::mt19937 random(1);
  for (int round = 0; round < 10000; ++round) {
    std::string bytes = whole;
    for (int i = 0; i <= round % 3; ++i)
      bytes[random() % bytes.size()] ^= static_cast<char>(1u << random() % 8);
    sentence_of([&] {
      int sum = 0;
      const auto list = parse(bytes);
      for (const SafetensorsTensor& tensor : list.all()) {
        for (const std::byte byte : tensor.bytes) sum += std::to_integer<int>(byte);
      }
      EXPECT_GE(sum, 0);
    });
  }
}

TEST(Safetensors, BoundsTheMemoryOfTheList) {
  std::string header = "{";
  for (int i = 0; i < 400'000; ++i) {
    header += fmt::format(R"("{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},)", i);
  }
  header.back() = '}';
  EXPECT_NE(sentence_of_header(header, 0).find("more than the 48 MiB"), std::string::npos);
}

class SafetensorsShards : public testing::Test {
 protected:
  void SetUp() override {
    write_shard("x.safetensors", "a");
    write_shard("y.safetensors", "b");
  }
  void write_shard(std::string_view file, std::string_view tensor) {
    folder_.write(
        file,
        file_of(fmt::format(R"({{"{}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}})", tensor), 1));
  }
  std::string open(std::string_view index) {
    folder_.write("model.safetensors.index.json", index);
    return sentence_of([this] { n_tensors_ = SafetensorsModel(folder_.path()).tensors().size(); });
  }

  TemporaryFolder folder_;
  size_t n_tensors_ = 0;
};

TEST_F(SafetensorsShards, OpensAllShards) {
  EXPECT_EQ(
      open(
          R"({"metadata":{"total_size":2,"deep":[{}]},"weight_map":{"a":"x.safetensors","b":"y.safetensors"}})"),
      "");
  EXPECT_EQ(n_tensors_, 2u);
}

TEST_F(SafetensorsShards, OpensASingleFile) {
  EXPECT_EQ(SafetensorsModel(folder_.path() / "x.safetensors").find("a")->bytes.size(), 1u);
  EXPECT_EQ(SafetensorsModel(folder_.path() / "x.safetensors").find("b"), nullptr);
}

TEST_F(SafetensorsShards, RefusesFoldersWithoutAModel) {
  EXPECT_NE(
      sentence_of([this] { SafetensorsModel model(folder_.path()); }).find("expected model.safetensors"),
      std::string::npos);
}

TEST_F(SafetensorsShards, RefusesNamesThatAreNoPlainFiles) {
  for (const char* name :
       {"../x.safetensors", "/x.safetensors", "a/x.safetensors", "a\\\\x.safetensors",
        "https://host/x.safetensors", "x.bin", "", "..", ".safetensors", "x\\u0000.safetensors"}) {
    EXPECT_NE(open(fmt::format(R"({{"weight_map":{{"a":"{}"}}}})", name)).find("plain name"),
              std::string::npos)
        << name;
  }
}

TEST_F(SafetensorsShards, RefusesAnIndexThatDisagrees) {
  EXPECT_NE(open(R"({"weight_map":{"a":"y.safetensors"}})").find("expected tensor \"a\" in y.safetensors"),
            std::string::npos);
  EXPECT_NE(open(R"({"weight_map":{"c":"x.safetensors"}})").find("expected tensor \"c\""), std::string::npos);
  EXPECT_NE(open(R"({"weight_map":{"a":"z.safetensors"}})").find("z.safetensors"), std::string::npos);
  EXPECT_NE(open(R"({"weight_map":{"a":"x.safetensors","a":"x.safetensors"}})").find("occurs twice"),
            std::string::npos);
  write_shard("y.safetensors", "a");
  EXPECT_NE(open(R"({"weight_map":{"a":"x.safetensors","b":"y.safetensors"}})").find("occurs twice"),
            std::string::npos);
}

TEST_F(SafetensorsShards, RefusesAnIndexOfAnotherShape) {
  for (const char* index :
       {"", "[]", "1", "{}", R"({"weight_map":1})", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})",
        R"({"weight_map":{"a":{}}})", R"({"weight_map":{"a":["x"]}})", R"({"weight_map":{},"weight_map":{}})",
        R"({"metadata":{"weight_map":{}}})"}) {
    EXPECT_NE(open(index), "") << index;
  }
}

}  // namespace
}  // namespace millrace
