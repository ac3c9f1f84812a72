// The store outside of the cache: what is there is whole, whatever was killed, cut, full or shared.
#include "kv/page_store.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <random>

#include "base/temporary_folder.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPlenty = int64_t{1} << 30;
constexpr auto kShared = PageTier::Keep::shared;
constexpr auto kParked = PageTier::Keep::parked;

PageKey key_of(int64_t i) { return parked_key(7, i); }

// What record i holds.
std::vector<std::byte> content_of(int64_t i, size_t n = 1000) {
  std::mt19937 random(static_cast<uint32_t>(i));
  std::vector<std::byte> content(n);
  for (std::byte& each : content) each = static_cast<std::byte>(random());
  return content;
}

// Record i, whole or not there.
bool has_sound(const DiskStore& disk, int64_t i, size_t n = 1000) {
  std::vector<std::byte> content(n);
  if (!disk.read(key_of(i), content)) return false;
  EXPECT_EQ(content, content_of(i, n)) << "record " << i;
  return true;
}

std::vector<fs::path> files_in(const fs::path& dir) {
  std::vector<fs::path> files;
  for (const auto& each : fs::recursive_directory_iterator(dir)) {
    if (each.is_regular_file() && each.path().filename() != "lock") files.push_back(each.path());
  }
  return files;
}

TEST(DiskStore, GivesBackWhatWasWritten) {
  const TemporaryFolder folder;
  DiskStore disk(folder.path() / "a" / "b", "model", kPlenty);
  EXPECT_FALSE(disk.has(key_of(1)));
  for (int64_t i = 0; i < 20; ++i) EXPECT_TRUE(disk.write(key_of(i), content_of(i)));
  for (int64_t i = 0; i < 20; ++i) EXPECT_TRUE(has_sound(disk, i));
  EXPECT_FALSE(has_sound(disk, 20));
  EXPECT_TRUE(has_sound(DiskStore(folder.path() / "a" / "b", "model", kPlenty), 3)) << "after a restart";
  struct stat info {};
  ASSERT_EQ(::stat((folder.path() / "a" / "b").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u) << "prompts are for their owner";
  for (const fs::path& file : files_in(folder.path())) {
    ASSERT_EQ(::stat(file.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
  }
}

TEST(DiskStore, AnotherIdentityIsAnotherWorld) {
  const TemporaryFolder folder;
  DiskStore disk(folder.path(), "model", kPlenty);
  disk.write(key_of(1), content_of(1));
  const DiskStore other(folder.path(), "model in q8_0", kPlenty);
  EXPECT_FALSE(other.has(key_of(1)));
  // Even where somebody puts the file into its place.
  const fs::path file = files_in(folder.path()).at(0);
  DiskStore(folder.path(), "model in q8_0", kPlenty).write(key_of(2), content_of(2));
  for (const fs::path& each : files_in(folder.path())) {
    if (each != file) fs::copy_file(file, each, fs::copy_options::overwrite_existing);
  }
  EXPECT_FALSE(has_sound(other, 2));
}

// Cut at every byte, changed at every byte: never there, and nothing else suffers.
TEST(DiskStore, ADamagedRecordWasNeverThere) {
  const TemporaryFolder folder;
  DiskStore disk(folder.path(), "model", kPlenty);
  disk.write(key_of(1), content_of(1, 200));
  const fs::path file = files_in(folder.path()).at(0);
  const auto n_bytes = static_cast<int64_t>(fs::file_size(file));
  disk.write(key_of(2), content_of(2));
  for (int64_t at = 0; at < n_bytes; ++at) {
    ASSERT_EQ(::truncate(file.c_str(), at), 0);
    EXPECT_FALSE(has_sound(disk, 1, 200)) << "cut at " << at;
    EXPECT_FALSE(disk.has(key_of(1))) << "what is damaged is deleted";
    ASSERT_TRUE(disk.write(key_of(1), content_of(1, 200)));
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(at);
    const int before = stream.get();
    stream.seekp(at);
    stream.put(static_cast<char>(before ^ 4));
    stream.close();
    EXPECT_FALSE(has_sound(disk, 1, 200)) << "changed at " << at;
    ASSERT_TRUE(disk.write(key_of(1), content_of(1, 200)));
  }
  EXPECT_TRUE(has_sound(disk, 1, 200));
  EXPECT_TRUE(has_sound(disk, 2));
}

TEST(DiskStore, WhoIsKilledLosesOneRecord) {
  const TemporaryFolder folder;
  constexpr size_t kBytes = 300000;
  for (int64_t round = 0; round < 20; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      DiskStore disk(folder.path(), "model", kPlenty);
      for (int64_t i = 0;; ++i)
        disk.write(key_of(round * 1000 + i % 1000), content_of(round * 1000 + i % 1000, kBytes));
    }
    // It is at one of the next records.
    const DiskStore seen(folder.path(), "model", kPlenty);
    for (int i = 0; i < 20000 && !seen.has(key_of(round * 1000)); ++i) ::usleep(1000);
    ::usleep(static_cast<useconds_t>(1700 * round));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    const DiskStore disk(folder.path(), "model", kPlenty);
    int64_t n_sound = 0;
    while (has_sound(disk, round * 1000 + n_sound, kBytes)) ++n_sound;
    EXPECT_FALSE(disk.has(key_of(round * 1000 + n_sound))) << "a record under its name that is not whole";
  }
  EXPECT_GE(files_in(folder.path()).size(), 20u);
}

TEST(DiskStore, DeletesWhatWasUsedLeastRecently) {
  const TemporaryFolder folder;
  constexpr int64_t kMax = 40 * 4096;
  DiskStore disk(folder.path(), "model", kMax), other(folder.path(), "other", kMax);
  for (int64_t i = 0; i < 100; ++i) {
    (i % 2 == 0 ? disk : other).write(key_of(i), content_of(i));
    EXPECT_TRUE(has_sound(disk, 0)) << "used again and again";
    ::usleep(2000);  // times of files are coarse
  }
  EXPECT_LE(files_in(folder.path()).size(), 45u) << "a few more, as two write";
  EXPECT_TRUE(has_sound(disk, 98));
  EXPECT_FALSE(has_sound(disk, 2));
  EXPECT_FALSE(disk.write(key_of(1000), content_of(1000, kMax))) << "more than all";
}

TEST(DiskStore, WhatIsLeftUnfinishedIsSweptAway) {
  const TemporaryFolder folder;
  DiskStore disk(folder.path(), "model", kPlenty);
  disk.write(key_of(1), content_of(1));
  const fs::path file = files_in(folder.path()).at(0);
  const fs::path old_one = fs::path(file) += ".1.1.part", new_one = fs::path(file) += ".1.2.part";
  fs::copy_file(file, old_one);
  fs::copy_file(file, new_one);
  fs::last_write_time(old_one, fs::file_time_type::clock::now() - std::chrono::hours(1));
  DiskStore(folder.path(), "model", kPlenty).write(key_of(2), content_of(2));
  EXPECT_FALSE(fs::exists(old_one));
  EXPECT_TRUE(fs::exists(new_one)) << "another process may be writing it";
}

// The limit on the size of a file stands for a disk that is full: write() fails in its middle.
TEST(DiskStore, AFullDiskIsToldOnceAndSurvived) {
  const TemporaryFolder folder;
  DiskStore disk(folder.path(), "model", kPlenty);
  disk.write(key_of(1), content_of(1));
  struct rlimit before {};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit limit { 500, before.rlim_max };
  ::setrlimit(RLIMIT_FSIZE, &limit);
  testing::internal::CaptureStderr();
  for (int64_t i = 2; i < 10; ++i) EXPECT_FALSE(disk.write(key_of(i), content_of(i)));
  const std::string log = testing::internal::GetCapturedStderr();
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(std::ranges::count(log, '\n'), 1) << log;
  EXPECT_TRUE(has_sound(disk, 1));
  EXPECT_EQ(files_in(folder.path()).size(), 1u) << "nothing unfinished is left";
}

TEST(DiskStore, AFolderThatCannotBeWrittenIsStillRead) {
  const TemporaryFolder folder;
  const fs::path dir = folder.path() / "dir";
  DiskStore(dir, "model", kPlenty).write(key_of(1), content_of(1));
  fs::permissions(folder.path(), fs::perms::all);
  for (const auto& each : fs::recursive_directory_iterator(dir)) {
    const auto perms = each.is_directory() ? fs::perms(0555) : fs::perms(0444);
    fs::permissions(each.path(), perms);
  }
  fs::permissions(dir, fs::perms(0555));
  const bool is_root = ::geteuid() == 0;
  ASSERT_EQ(::seteuid(is_root ? 65534 : ::geteuid()), 0);  // root may write everywhere
  DiskStore disk(dir, "model", kPlenty);
  testing::internal::CaptureStderr();
  for (int64_t i = 2; i < 5; ++i) EXPECT_FALSE(disk.write(key_of(i), content_of(i)));
  EXPECT_TRUE(has_sound(disk, 1));
  const std::string log = testing::internal::GetCapturedStderr();
  ASSERT_EQ(::seteuid(is_root ? 0 : ::geteuid()), 0);
  EXPECT_EQ(std::ranges::count(log, '\n'), 1) << log;
  fs::permissions(dir, fs::perms(0755));
  for (const auto& each : fs::recursive_directory_iterator(dir))
    fs::permissions(each.path(), fs::perms(0755));
}

TEST(DiskStore, ManyMayShareAFolder) {
  const TemporaryFolder folder;
  std::vector<std::thread> threads;
  for (int64_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&folder, thread] {
      DiskStore disk(folder.path(), "model", 60 * 4096);
      for (int64_t i = 0; i < 300; ++i) {
        disk.write(key_of((i * (thread + 1)) % 100), content_of((i * (thread + 1)) % 100));
        has_sound(disk, i % 100);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const DiskStore disk(folder.path(), "model", kPlenty);
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(disk.has(key_of(i)), has_sound(disk, i));
}

// A page in three stretches.
class Pages : public testing::Test {
 protected:
  Parts parts() {
    const std::span<std::byte> all(memory_);
    return {all.first(1), all.subspan(1, 499), all.subspan(500)};
  }
  void save(PageStore& store, int64_t i, PageTier::Keep keep = kShared) {
    memory_ = content_of(i);
    store.save(key_of(i), parts(), keep);
  }
  bool loads(PageStore& store, int64_t i) {
    memory_.assign(1000, std::byte{0});
    if (!store.load(key_of(i), parts())) return false;
    EXPECT_EQ(memory_, content_of(i)) << "record " << i;
    return true;
  }

  std::vector<std::byte> memory_ = std::vector<std::byte>(1000);
  TemporaryFolder folder_;
};

TEST_F(Pages, InMemoryTheLeastRecentlyUsedLeavesAndTheParkedStays) {
  PageStore store({.memory_bytes = 3500});
  save(store, 1, kParked);
  save(store, 2);
  save(store, 3);
  EXPECT_TRUE(loads(store, 2));
  save(store, 4);
  EXPECT_FALSE(loads(store, 3));
  EXPECT_TRUE(loads(store, 2));
  save(store, 5, kParked);
  save(store, 6, kParked);
  EXPECT_FALSE(store.has_room(1000));
  save(store, 7, kParked);
  EXPECT_FALSE(loads(store, 7)) << "no room beside three that are parked";
  EXPECT_FALSE(loads(store, 2));
  EXPECT_TRUE(loads(store, 1) && loads(store, 5) && loads(store, 6));
  store.drop(key_of(5));
  EXPECT_TRUE(store.has_room(1000));
  EXPECT_FALSE(loads(store, 5));
}

TEST_F(Pages, SharedOnesOutliveTheProcessAndParkedOnesDoNot) {
  const PageStore::Options options{
      .memory_bytes = 20000, .dir = folder_.path(), .disk_bytes = kPlenty, .identity = "model"};
  const auto soon = [] { return std::chrono::steady_clock::now() + std::chrono::seconds(20); };
  {
    PageStore store(options);
    for (int64_t i = 0; i < 100; ++i) {
      ASSERT_TRUE(store.wait_for_room(1000, soon()));
      save(store, i);
    }
    ASSERT_TRUE(store.wait_for_room(1000, soon()));
    save(store, 100, kParked);
    for (int64_t i = 0; i < 101; ++i) EXPECT_TRUE(loads(store, i));
    store.set_finish_by(soon());
  }
  PageStore store(options);
  for (int64_t i = 0; i < 100; ++i) EXPECT_TRUE(loads(store, i));
  EXPECT_FALSE(loads(store, 100));
}

// A disk that takes nothing must not hold up anything.
TEST_F(Pages, WithoutAUsableDiskTheyStayInMemory) {
  std::ofstream(folder_.path() / "file") << "x";
  PageStore store({.memory_bytes = 3000,
                   .dir = folder_.path() / "file" / "dir",
                   .disk_bytes = kPlenty,
                   .identity = "model"});
  for (int64_t i = 0; i < 50; ++i) {
    ASSERT_TRUE(store.wait_for_room(1000, std::chrono::steady_clock::now() + std::chrono::seconds(20)));
    save(store, i);
    EXPECT_TRUE(loads(store, i));
  }
}

}  // namespace
}  // namespace millrace
