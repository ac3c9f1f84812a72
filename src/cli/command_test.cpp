#include "cli/command.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Command, TakesAndGivesText) {
  const std::string text(300'000, 'x');  // more than a pipe holds
  EXPECT_EQ(run_command("cat; cat", text, size_t{1} << 20).output, text);
  EXPECT_EQ(run_command("true", text, 10).output, "");
  EXPECT_EQ(run_command("echo out; echo err >&2", {}, 10).output, "out\n");
}

TEST(Command, TellsHowItEnded) {
  EXPECT_EQ(run_command("true", {}, 10).status, 0);
  EXPECT_EQ(run_command("exit 3", {}, 10).status, 3);
  EXPECT_EQ(run_command("kill -9 $$", {}, 10).status, 128 + 9);
  EXPECT_EQ(run_command("no-such-command-here 2> /dev/null", {}, 10).status, 127);
}

TEST(Command, CutsWhatIsTooLong) {
  const CommandResult exact = run_command("printf 1234", {}, 4);
  EXPECT_EQ(exact.output, "1234");
  EXPECT_FALSE(exact.is_cut);
  // A pipe without a reader ends the command: what is not wanted is not written for ever.
  const CommandResult cut = run_command("yes", {}, 5);
  EXPECT_EQ(cut.output, "y\ny\ny");
  EXPECT_TRUE(cut.is_cut);
  EXPECT_EQ(cut.status, 128 + 13);
}

}  // namespace
}  // namespace millrace
