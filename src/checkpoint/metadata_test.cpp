#include <gtest/gtest.h>

#include "checkpoint/checkpoint.h"

namespace millrace {
namespace {

using Strings = std::vector<std::string_view>;
using Integers = std::vector<int64_t>;
using Doubles = std::vector<double>;

std::string sentence_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    return error.what();
  }
  return "no error";
}

TEST(Metadata, GivesWhatWasAdded) {
  Metadata metadata;
  metadata.add("b", true);
  metadata.add("i", int64_t{7});
  metadata.add("d", 0.5);
  metadata.add("s", std::string_view("text"));
  metadata.add("is", Integers{1, 2});
  metadata.add("ss", Strings{"x", "y"});
  EXPECT_EQ(metadata.need<bool>("b"), true);
  EXPECT_EQ(metadata.need<int64_t>("i"), 7);
  EXPECT_EQ(metadata.need<double>("d"), 0.5);
  EXPECT_EQ(metadata.need<std::string_view>("s"), "text");
  EXPECT_EQ(metadata.need<Integers>("is"), (Integers{1, 2}));
  EXPECT_EQ(metadata.need<Strings>("ss"), (Strings{"x", "y"}));
  EXPECT_EQ(metadata.entries()[3].first, "s");
  EXPECT_EQ(metadata.get<int64_t>("none"), std::nullopt);
  EXPECT_EQ(metadata.get_or<int64_t>("none", 3), 3);
}

TEST(Metadata, IntegersAreNumbers) {
  Metadata metadata;
  metadata.add("i", int64_t{7});
  metadata.add("is", Integers{1, 2});
  EXPECT_EQ(metadata.need<double>("i"), 7.0);
  EXPECT_EQ(metadata.need<Doubles>("is"), (Doubles{1, 2}));
}

TEST(Metadata, NumbersAreNotIntegersNorBooleans) {
  Metadata metadata;
  metadata.add("d", 1.0);
  metadata.add("i", int64_t{1});
  EXPECT_THROW(metadata.get<int64_t>("d"), Error);
  EXPECT_THROW(metadata.get<bool>("i"), Error);
}

TEST(Metadata, AnEmptyArrayFitsEveryKind) {
  Metadata metadata;
  metadata.add("none", Integers{});
  EXPECT_TRUE(metadata.need<Strings>("none").empty());
  EXPECT_TRUE(metadata.need<Doubles>("none").empty());
  EXPECT_TRUE(metadata.need<std::vector<bool>>("none").empty());
  EXPECT_THROW(metadata.get<int64_t>("none"), Error);
}

TEST(Metadata, SentencesNameKeyExpectedAndFound) {
  Metadata metadata;
  metadata.add("a\x1b[31mkey", 1.5);
  EXPECT_EQ(sentence_of([&] { metadata.need<std::string_view>("a\x1b[31mkey"); }),
            "expected a string under the metadata key \"a\\x1b[31mkey\", found a number");
  EXPECT_EQ(sentence_of([&] { metadata.need<Integers>("llama.x"); }),
            "expected an array of integers under the metadata key \"llama.x\", found no such key");
  EXPECT_EQ(sentence_of([&] { metadata.add("a\x1b[31mkey", 1.5); }),
            "the metadata key \"a\\x1b[31mkey\" occurs twice");
}

}  // namespace
}  // namespace millrace
