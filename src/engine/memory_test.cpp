// What is available, read from folders that look like machines and containers.
#include "engine/memory.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "base/error.h"
#include "base/temporary_folder.h"

namespace millrace {
namespace {

class Machine : public testing::Test {
 protected:
  void write(const std::string& path, const std::string& text) { folder_.write(path, text); }

  TemporaryFolder folder_;
  const std::filesystem::path root_ = folder_.path();
};

TEST_F(Machine, WithoutLimits) {
  EXPECT_EQ(available_memory_bytes(root_), std::numeric_limits<int64_t>::max());
  write("proc/meminfo", "MemTotal: 100 kB\nHugePages_Total:       0\nMemAvailable:     50 kB\n");
  write("proc/self/cgroup", "0::/user.slice\n");
  write("sys/fs/cgroup/user.slice/memory.max", "max\n");
  write("sys/fs/cgroup/user.slice/memory.current", "1000\n");
  EXPECT_EQ(available_memory_bytes(root_), 50 * 1024);
}

TEST_F(Machine, ALimitAboveHolds) {
  write("proc/meminfo", "MemAvailable: 50 kB\n");
  write("proc/self/cgroup", "0::/a/b\n");
  write("sys/fs/cgroup/a/memory.max", "9000\n");
  write("sys/fs/cgroup/a/memory.current", "4000\n");
  write("sys/fs/cgroup/a/b/memory.max", "max\n");
  EXPECT_EQ(available_memory_bytes(root_), 5000);
}

TEST_F(Machine, ThePageCacheIsAvailable) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "9000\n");
  write("sys/fs/cgroup/memory.current", "8900\n");
  write("sys/fs/cgroup/memory.stat", "anon 900\nfile 8000\ninactive_file 5000\nactive_file 3000\n");
  EXPECT_EQ(available_memory_bytes(root_), 8100);
}

TEST_F(Machine, VersionOneInAContainerThatShowsTheHostsPath) {
  write("proc/meminfo", "MemAvailable: 50 kB\n");
  write("proc/self/cgroup", "11:cpu:/x\n4:memory:/docker/abc\n0::/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "6000\n");
  write("sys/fs/cgroup/memory/memory.stat",
        "inactive_file 1\ntotal_inactive_file 500\ntotal_active_file 100\n");
  EXPECT_EQ(available_memory_bytes(root_), 1600);
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(available_memory_bytes(root_), 50 * 1024);
}

TEST_F(Machine, AUseBeyondTheLimitLeavesNothing) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "10\n");
  write("sys/fs/cgroup/memory.current", "20\n");
  EXPECT_EQ(available_memory_bytes(root_), 0);
}

TEST_F(Machine, TheProgramIsWhatIsNoWeights) {
  const int64_t first_use = int64_t{5} << 20;
  EXPECT_EQ(program_bytes(5000, root_), 0);
  write("proc/self/smaps",
        "55e0-55e1 r--p 00000000 08:01 17 /usr/bin/millrace\nSize: 9 kB\nRss: 3 kB\n"
        "55e1-55e2 r-xp 00001000 08:01 17 /usr/bin/millrace\nSize: 90 kB\nRss: 40 kB\nPss: 40 kB\n"
        "7f00-7f01 r--s 00000000 08:01 18 /models/a-b.gguf\nSize: 5000 kB\nRss: 12 kB\nVmFlags: rd sh\n"
        "7f02-7f03 rw-p 00000000 00:00 0 \nSize: 999 kB\nRss: 600 kB\n"
        "7ffd-7ffe rw-p 00000000 00:00 0 [stack]\nSize: 9 kB\nRss: 7 kB\n");
  EXPECT_EQ(program_bytes(4900 * 1024, root_), first_use + (650 + 100) * 1024);
  EXPECT_EQ(program_bytes(5001 * 1024, root_), first_use + 650 * 1024);
  EXPECT_GT(program_bytes(0), first_use);
}

TEST(NeedMemory, NamesTheMostThatFits) {
  const auto refusal = [](int64_t n_positions, int64_t available) -> std::string {
    try {
      need_memory({.weights_bytes = 1000,
                   .kv_bytes = (n_positions + 7) / 8 * 80,
                   .arena_bytes = 200,
                   .n_positions = n_positions,
                   .page_size = 8},
                  available);
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::does_not_fit);
      return error.what();
    }
  };
  EXPECT_NE(refusal(100, 2000).find("80 positions would fit"), std::string::npos) << refusal(100, 2000);
  EXPECT_EQ(refusal(80, 2000), "");
  EXPECT_NE(refusal(81, 2000), "");
  EXPECT_NE(refusal(1, 1279).find("not even one page"), std::string::npos);
}

TEST(NeedMemory, AsksForTheBytesOfFewerPositions) {
  const auto kv_bytes_of = [](int64_t n_positions) { return 500 + n_positions * 10; };
  try {
    need_memory({.kv_bytes = 1500, .n_positions = 100, .page_size = 8, .kv_bytes_of = kv_bytes_of}, 1200);
    FAIL() << "more than there is";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("64 positions would fit"), std::string::npos) << error.what();
  }
}

TEST(NeedMemory, NamesTheStates) {
  try {
    need_memory({.kv_bytes = 100, .state_bytes = 3 << 20, .n_positions = 8, .n_slots = 3}, 200);
    FAIL() << "more than there is";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("3.0 MiB for 3 recurrent states (1.0 MiB each)"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace millrace
