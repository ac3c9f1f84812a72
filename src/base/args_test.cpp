#include "base/args.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/nearest.h"

namespace millrace {
namespace {

// One variable of every type.
struct Everything {
  std::string model, text, word;
  int64_t big = 7;
  int small = 7;
  float real = 7;
  bool is_set = false;
  std::optional<std::string> maybe_word;
  std::optional<uint64_t> seed;
  std::optional<float> maybe_real;
  std::optional<int32_t> maybe_int;
  std::vector<std::string> words;

  std::unique_ptr<Args> declare() {
    auto args = std::make_unique<Args>("tokenize", "Turn text into token ids");
    args->positional("MODEL", "The model", model, Args::Presence::needed);
    args->positional("TEXT", "The text", text, Args::Presence::optional);
    args->option("-w,--word", "A word", word);
    args->option("--big", "A number", big);
    args->option("--small", "A number", small);
    args->option("--real", "A number", real);
    args->flag("--set", "A flag", is_set);
    args->option("--maybe-word", "A word", maybe_word);
    args->option("--seed", "A number", seed);
    args->option("--maybe-real", "A number", maybe_real);
    args->option("--maybe-int", "A number", maybe_int);
    args->option("--words", "Words", words);
    return args;
  }

  bool parse(const std::vector<const char*>& argv) {
    return declare()->parse(static_cast<int>(argv.size()), argv.data());
  }

  std::string sentence_of(const std::vector<const char*>& argv) {
    try {
      parse(argv);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
      return error.what();
    }
    return "";
  }
};

TEST(Args, FillTheirVariables) {
  Everything all;
  EXPECT_TRUE(all.parse({"m",
                         "t",
                         "--word",
                         "w",
                         "--big=-9000000000",
                         "--small",
                         "-3",
                         "--real",
                         "0.5",
                         "--set",
                         "--maybe-word",
                         "x",
                         "--seed",
                         "18446744073709551615",
                         "--maybe-real",
                         "-1.5",
                         "--maybe-int",
                         "4",
                         "--words",
                         "a",
                         "--words",
                         "b"}));
  EXPECT_EQ(all.model, "m");
  EXPECT_EQ(all.text, "t");
  EXPECT_EQ(all.word, "w");
  EXPECT_EQ(all.big, -9'000'000'000);
  EXPECT_EQ(all.small, -3);
  EXPECT_EQ(all.real, 0.5f);
  EXPECT_TRUE(all.is_set);
  EXPECT_EQ(all.maybe_word, "x");
  EXPECT_EQ(all.seed, UINT64_MAX);
  EXPECT_EQ(all.maybe_real, -1.5f);
  EXPECT_EQ(all.maybe_int, 4);
  EXPECT_EQ(all.words, (std::vector<std::string>{"a", "b"}));
}

TEST(Args, LeaveAloneWhatIsNotGiven) {
  Everything all;
  EXPECT_TRUE(all.parse({"m"}));
  EXPECT_EQ(all.big, 7);
  EXPECT_EQ(all.real, 7);
  EXPECT_FALSE(all.is_set);
  EXPECT_EQ(all.seed, std::nullopt);
  EXPECT_TRUE(all.text.empty());
}

TEST(Args, OptionsStandAnywhereAndTheLastCounts) {
  Everything all;
  EXPECT_TRUE(all.parse({"-w", "a", "m", "-w", "b", "t"}));
  EXPECT_EQ(all.word, "b");
  EXPECT_EQ(all.text, "t");
}

TEST(Args, TakeTextThatLooksLikeAnOptionAfterTwoDashes) {
  Everything all;
  EXPECT_TRUE(all.parse({"m", "--", "--set"}));
  EXPECT_EQ(all.text, "--set");
  EXPECT_FALSE(all.is_set);
}

TEST(Args, RefuseInOneSentence) {
  Everything all;
  EXPECT_NE(all.sentence_of({}).find("MODEL"), std::string::npos);
  EXPECT_EQ(all.sentence_of({"m", "--sead", "1"}), "tokenize: unknown option --sead; did you mean --seed?");
  EXPECT_EQ(all.sentence_of({"m", "t", "\x1b[1m"}), "tokenize: one argument too many: \\x1b[1m");
  for (const char* wrong : {"x", "1.5", "1x", "", "9223372036854775808", "0x", "1e3"}) {
    EXPECT_NE(all.sentence_of({"m", "--big", wrong}), "") << wrong;
    EXPECT_NE(all.sentence_of({"m", "--maybe-int", wrong}), "") << wrong;
  }
  EXPECT_NE(all.sentence_of({"m", "--maybe-int", "2147483648"}), "");
  EXPECT_NE(all.sentence_of({"m", "--seed", "-1"}), "");
  for (const char* wrong : {"x", "", "1x", "nan", "inf", "1e99", "-"}) {
    EXPECT_NE(all.sentence_of({"m", "--real", wrong}), "") << wrong;
  }
  EXPECT_EQ(all.sentence_of({"m", "--big", "1e3"}), "tokenize: --big should be an integer, found \"1e3\"");
  EXPECT_EQ(all.sentence_of({"m", "--maybe-real", "x"}),
            "tokenize: --maybe-real should be a number, found \"x\"");
  EXPECT_NE(all.sentence_of({"m", "--big"}), "");
  EXPECT_NE(all.sentence_of({"m", "--words"}), "");
}

TEST(Args, PrintHelp) {
  Everything all;
  testing::internal::CaptureStdout();
  EXPECT_FALSE(all.parse({"--help"}));
  const std::string help = testing::internal::GetCapturedStdout();
  for (const char* part :
       {"Turn text into token ids", "millrace tokenize", "MODEL", "--maybe-word", "A flag"}) {
    EXPECT_NE(help.find(part), std::string::npos) << part;
  }
}

TEST(Args, ListWhatTheyKnow) {
  Everything all;
  const auto args = all.declare();
  ASSERT_EQ(args->entries().size(), 13u);
  EXPECT_EQ(args->entries()[0].names, (std::vector<std::string>{"-h", "--help"}));
  EXPECT_TRUE(args->entries()[1].is_positional);
  EXPECT_EQ(args->entries()[3].names, (std::vector<std::string>{"-w", "--word"}));
  EXPECT_TRUE(args->entries()[3].takes_value);
  EXPECT_FALSE(args->entries()[7].takes_value);
}

TEST(ParseIds, ReadsListsOfIds) {
  EXPECT_EQ(parse_ids("1,2,3", "IDS"), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(parse_ids("1 2", "IDS"), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(parse_ids("2147483647", "IDS"), (std::vector<int32_t>{2147483647}));
  EXPECT_TRUE(parse_ids("", "IDS").empty());
  for (const char* wrong : {",", "1,", ",1", "1,,2", "x", "-1", "2147483648", "1.5", "1;2", "1\n"}) {
    EXPECT_THROW(parse_ids(wrong, "IDS"), Error) << wrong;
  }
}

TEST(NearestName, HasTheFewestEdits) {
  const std::string_view known[] = {"run", "render", "tokenize", "detokenize"};
  EXPECT_EQ(nearest_name("rum", known), "run");
  EXPECT_EQ(nearest_name("tokenise", known), "tokenize");
  EXPECT_EQ(nearest_name("detokenze", known), "detokenize");
  EXPECT_EQ(nearest_name("", known), "run");
  nearest_name(std::string(1 << 20, 'x'), known);
}

}  // namespace
}  // namespace millrace
