#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "base/temporary_folder.h"

namespace millrace {
namespace {

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

size_t n_files(const TemporaryFolder& folder) {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder.path()), {}));
}

template <class Call>
Error error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorKind::runtime, "no error");
}

TEST(MappedFile, ReadsAgainWhatWasReleased) {
  const TemporaryFolder folder;
  std::string content(size_t{1} << 20, '\0');
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 2654435761u >> 13);
  const MappedFile file(folder.write("f", content));
  EXPECT_TRUE(text_of(file) == content);
  MappedFile::prepare_release(file.bytes());
  MappedFile::release(file.bytes().subspan(100, 900000));
  MappedFile::release(file.bytes().first(3));
  EXPECT_TRUE(text_of(file) == content);
}

TEST(MappedFile, HoldsTheBytes) {
  const TemporaryFolder folder;
  MappedFile file(folder.write("f", "content"));
  EXPECT_EQ(text_of(file), "content");
  MappedFile moved = std::move(file);
  EXPECT_EQ(text_of(moved), "content");
  moved = MappedFile(folder.write("g", "other"));
  EXPECT_EQ(text_of(moved), "other");
}

TEST(MappedFile, MayBeEmpty) {
  const TemporaryFolder folder;
  EXPECT_TRUE(MappedFile(folder.write("f", "")).bytes().empty());
}

TEST(MappedFile, OutlivesTheName) {
  const TemporaryFolder folder;
  const MappedFile file(folder.write("f", "content"));
  std::filesystem::remove(folder.path() / "f");
  EXPECT_EQ(text_of(file), "content");
}

// Each of these must be refused at once: a FIFO would block, a device would never end.
TEST(Files, OnlyRegularFilesAreOpened) {
  const TemporaryFolder folder;
  const auto fifo = folder.path() / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  std::filesystem::create_symlink("loop", folder.path() / "loop");
  std::filesystem::create_symlink("/dev/zero", folder.path() / "link");
  for (const std::filesystem::path& path :
       {folder.path(), fifo, folder.path() / "loop", folder.path() / "link", folder.path() / "none",
        std::filesystem::path("/dev/zero"), std::filesystem::path()}) {
    EXPECT_THROW(MappedFile{path}, Error) << path;
    EXPECT_THROW(read_file(path, 100), Error) << path;
  }
}

TEST(Files, SentencesNameThePathAndCarryTheKind) {
  const Error missing = error_of([] { MappedFile("/no/such\nfile", ErrorKind::usage); });
  EXPECT_EQ(missing.kind(), ErrorKind::usage);
  EXPECT_STREQ(missing.what(), "cannot open /no/such\\x0afile: No such file or directory");
  EXPECT_STREQ(error_of([] { MappedFile("/tmp/."); }).what(), "expected a file, found a folder: /tmp/.");
}

TEST(ReadFile, ReadsUpToTheLimit) {
  const TemporaryFolder folder;
  const auto path = folder.write("f", std::string("a\0b", 3));
  EXPECT_EQ(read_file(path, 3), std::string("a\0b", 3));
  EXPECT_NE(
      std::string(error_of([&] { read_file(path, 2); }).what()).find("has 3 bytes, more than the 2 allowed"),
      std::string::npos);
}

TEST(AtomicFile, AppearsWhole) {
  const TemporaryFolder folder;
  const auto path = folder.write("f", "old");
  {
    AtomicFile file(path);
    file.write("new ");
    file.write("content");
    EXPECT_EQ(read_file(path, 100), "old");
    file.commit();
  }
  EXPECT_EQ(read_file(path, 100), "new content");
  EXPECT_EQ(n_files(folder), 1u);
}

TEST(AtomicFile, LeavesNoTraceWithoutCommit) {
  const TemporaryFolder folder;
  const auto path = folder.write("f", "old");
  { AtomicFile(path).write("new"); }
  EXPECT_EQ(read_file(path, 100), "old");
  EXPECT_EQ(n_files(folder), 1u);
}

TEST(AtomicFile, RefusesWhatTheDiskCannotHold) {
  const TemporaryFolder folder;
  const Error error = error_of([&] { AtomicFile(folder.path() / "f", uint64_t{1} << 60); });
  EXPECT_EQ(error.kind(), ErrorKind::does_not_fit);
  EXPECT_EQ(n_files(folder), 0u);
}

TEST(AtomicFile, TellsWhereItCannotBe) {
  const Error error = error_of([] { AtomicFile("/no/such/folder/f"); });
  EXPECT_EQ(error.kind(), ErrorKind::runtime);
  EXPECT_NE(std::string(error.what()).find("cannot create /no/such/folder/f"), std::string::npos);
  // A folder cannot be replaced by a file, and the temporary file must not stay.
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "d");
  EXPECT_NE(std::string(error_of([&] { write_file_atomically(folder.path() / "d", "x"); }).what())
                .find("cannot finish"),
            std::string::npos);
  EXPECT_EQ(n_files(folder), 1u);
}

// A reader beside a writer sees one of the two contents, whole.
TEST(WriteFileAtomically, IsNeverSeenHalf) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "f";
  const std::string a(1 << 16, 'a'), b(1 << 17, 'b');
  write_file_atomically(path, a);
  std::thread writer([&] {
    for (int i = 0; i < 50; ++i) write_file_atomically(path, i % 2 == 0 ? b : a);
  });
  for (int i = 0; i < 200; ++i) {
    const std::string seen = read_file(path, 1 << 20);
    EXPECT_TRUE(seen == a || seen == b);
  }
  writer.join();
}

}  // namespace
}  // namespace millrace
