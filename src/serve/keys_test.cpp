#include "serve/keys.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/temporary_folder.h"

namespace millrace {
namespace {

using std::chrono::seconds;

// printf secret | sha256sum
constexpr const char* kSecretHash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

TEST(Allowance, GivesBackWithTime) {
  Allowance allowance(60);
  const Allowance::Time begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 60; ++i) {
    ASSERT_EQ(allowance.wait_for(1, begin), 0.0);
    allowance.spend(1);
  }
  EXPECT_NEAR(allowance.wait_for(1, begin), 1.0, 1e-6);
  EXPECT_EQ(allowance.wait_for(1, begin + seconds(2)), 0.0);
  allowance.spend(12);  // more than there is
  EXPECT_NEAR(allowance.wait_for(1, begin + seconds(2)), 11.0, 1e-6);
  EXPECT_EQ(allowance.wait_for(60, begin + seconds(1000)), 0.0);
  EXPECT_GT(allowance.wait_for(61, begin + seconds(1000)), 0.0);
}

TEST(Allowance, OfNothingIsNoLimit) {
  Allowance allowance;
  allowance.spend(1e9);
  EXPECT_EQ(allowance.wait_for(1e9, {}), 0.0);
}

class KeyFile : public ::testing::Test {
 protected:
  KeyRing ring_of(const std::string& text) {
    std::ofstream(folder_.path() / "keys.json") << text;
    return KeyRing::of_file(folder_.path() / "keys.json");
  }
  std::string fault_of(const std::string& text) {
    try {
      ring_of(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      return error.what();
    }
    return "";
  }
  TemporaryFolder folder_;
};

TEST_F(KeyFile, IsKnownByItsHash) {
  const KeyRing ring =
      ring_of(std::string(R"({"keys": [{"name": "a", "models": ["m"], "tokens_per_minute": 5, "sha256": ")") +
              kSecretHash + "\"}]}");
  ASSERT_NE(ring.find("secret"), nullptr);
  EXPECT_EQ(ring.find("secret")->name, "a");
  EXPECT_EQ(ring.find("secret")->tokens.per_minute(), 5);
  EXPECT_EQ(ring.find("Secret"), nullptr);
  EXPECT_EQ(ring.find(""), nullptr);
}

TEST_F(KeyFile, NamesWhatIsWrong) {
  EXPECT_NE(fault_of("{").find("no valid JSON"), std::string::npos);
  EXPECT_NE(fault_of("{}").find("keys is missing"), std::string::npos);
  EXPECT_NE(fault_of(R"({"keys": []})").find("no key"), std::string::npos);
  EXPECT_NE(fault_of(R"({"keys": [{"name": "a"}]})").find("keys[0].sha256"), std::string::npos);
  EXPECT_NE(fault_of(R"({"keys": [{"name": "a", "sha256": "12"}]})").find("64 hex digits"),
            std::string::npos);
  EXPECT_NE(fault_of(R"({"keys": [{"name": "a", "key": "secret"}]})").find("keys[0]"), std::string::npos);
}

TEST_F(KeyFile, ReadAnewForgivesNothing) {
  const std::string text =
      std::string(R"({"keys": [{"name": "a", "requests_per_minute": 1, "sha256": ")") + kSecretHash + "\"}]}";
  const KeyRing before = ring_of(text);
  const auto now = std::chrono::steady_clock::now();
  EXPECT_EQ(before.find("secret")->requests.wait_for(1, now), 0.0);
  before.find("secret")->requests.spend(1);
  KeyRing after = ring_of(text);
  after.take_over_allowances(before);
  EXPECT_GT(after.find("secret")->requests.wait_for(1, now), 0.0);
}

}  // namespace
}  // namespace millrace
