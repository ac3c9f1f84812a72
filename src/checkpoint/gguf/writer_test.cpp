#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/file.h"
#include "base/temporary_folder.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf/test_file.h"

namespace millrace::gguf {
namespace {

using Strings = std::vector<std::string_view>;

// Values at the edges of the types that a file can hold.
Metadata edge_metadata() {
  Metadata metadata;
  metadata.add("general.architecture", std::string_view("llama"));
  metadata.add("b", true);
  metadata.add("zero", int64_t{0});
  metadata.add("u32", int64_t{4294967295});
  metadata.add("i32", int64_t{-2147483648});
  metadata.add("above u32", int64_t{4294967296});
  metadata.add("min", std::numeric_limits<int64_t>::min());
  metadata.add("max", std::numeric_limits<int64_t>::max());
  metadata.add("f32", 0.1f);
  metadata.add("f64", 0.1);
  metadata.add("inf", std::numeric_limits<double>::infinity());
  metadata.add("s", std::string_view("a\0b\xff", 4));
  metadata.add("bools", std::vector<bool>{true, false, true});
  metadata.add("i32s", std::vector<int64_t>{-1, 2147483647});
  metadata.add("u32s", std::vector<int64_t>{0, 4294967295});
  metadata.add("i64s", std::vector<int64_t>{-1, 4294967295});
  metadata.add("x.precompiled_charsmap", std::vector<int64_t>{0, 255});
  metadata.add("f32s", std::vector<double>{0.5, -2});
  metadata.add("f64s", std::vector<double>{0.5, 1e300});
  metadata.add("strings", Strings{"", "x", "\n"});
  metadata.add("none", Strings{});
  return metadata;
}

void expect_same_metadata(const Metadata& found, const Metadata& expected) {
  ASSERT_EQ(found.entries().size(), expected.entries().size());
  for (size_t i = 0; i < expected.entries().size(); ++i) {
    EXPECT_EQ(found.entries()[i].first, expected.entries()[i].first);
    EXPECT_TRUE(found.entries()[i].second == expected.entries()[i].second) << expected.entries()[i].first;
  }
}

std::vector<NamedTensor> tensors_of(std::vector<std::byte>& memory) {
  std::vector<NamedTensor> tensors = {
      {"vector", Tensor(nullptr, Dtype::f32, {5})},
      {"matrix", Tensor(nullptr, Dtype::q8_0, {3, 64})},
      {"empty", Tensor(nullptr, Dtype::f16, {0, 4})},
      {"stack", Tensor(nullptr, Dtype::bf16, {2, 3, 4, 5})},
  };
  size_t n = 0;
  for (NamedTensor& named : tensors) n += named.tensor.n_bytes();
  memory.resize(n);
  for (size_t i = 0; i < n; ++i) memory[i] = static_cast<std::byte>(i * 37 + 11);
  std::byte* at = memory.data();
  for (NamedTensor& named : tensors) {
    named.tensor.data = at;
    at += named.tensor.n_bytes();
  }
  return tensors;
}

GgufToWrite to_write(const Metadata& metadata, std::span<const NamedTensor> tensors) {
  return {.metadata = metadata, .tensors = tensors, .bytes_of = [tensors](size_t i) {
            const Tensor& tensor = tensors[i].tensor;
            return std::span<const std::byte>(tensor.data, tensor.n_bytes());
          }};
}

void expect_same_tensors(const Checkpoint& found, std::span<const NamedTensor> expected) {
  ASSERT_EQ(found.tensors().size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const Tensor& a = found.tensors()[i].tensor;
    const Tensor& b = expected[i].tensor;
    EXPECT_EQ(found.tensors()[i].name, expected[i].name);
    EXPECT_EQ(shape_text(a), shape_text(b));
    ASSERT_EQ(a.n_bytes(), b.n_bytes());
    EXPECT_TRUE(std::equal(a.data, a.data + a.n_bytes(), b.data)) << expected[i].name;
  }
}

TEST(GgufWriter, WhatIsWrittenIsReadBack) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "m.gguf";
  std::vector<std::byte> memory;
  const std::vector<NamedTensor> tensors = tensors_of(memory);
  const Metadata metadata = edge_metadata();
  write_gguf(path, to_write(metadata, tensors));
  const auto checkpoint = open_gguf(path);
  expect_same_metadata(checkpoint->metadata(), metadata);
  expect_same_tensors(*checkpoint, tensors);
}

TEST(GgufWriter, AFileReadAndWrittenAgainIsTheSameFile) {
  const TemporaryFolder folder;
  std::vector<std::byte> memory;
  const std::vector<NamedTensor> tensors = tensors_of(memory);
  const Metadata metadata = edge_metadata();
  write_gguf(folder.path() / "1.gguf", to_write(metadata, tensors));
  write_gguf(folder.path() / "2.gguf", *open_gguf(folder.path() / "1.gguf"));
  EXPECT_EQ(read_file(folder.path() / "1.gguf", 1 << 20), read_file(folder.path() / "2.gguf", 1 << 20));
}

TEST(GgufWriter, KeepsTheAlignmentAndDropsTheSplitKeys) {
  const TemporaryFolder folder;
  Metadata metadata;
  metadata.add("general.alignment", int64_t{128});
  metadata.add("split.count", int64_t{3});
  std::vector<std::byte> memory;
  const std::vector<NamedTensor> tensors = tensors_of(memory);
  write_gguf(folder.path() / "m.gguf", to_write(metadata, tensors));
  const auto checkpoint = open_gguf(folder.path() / "m.gguf");
  EXPECT_EQ(checkpoint->metadata().entries().size(), 1u);
  EXPECT_EQ((checkpoint->tensors()[1].tensor.data - checkpoint->tensors()[0].tensor.data), 128);
}

TEST(GgufWriter, LeavesTheOldFileWhenATensorFails) {
  const TemporaryFolder folder;
  const auto path = folder.write("m.gguf", "old");
  std::vector<std::byte> memory;
  const std::vector<NamedTensor> tensors = tensors_of(memory);
  const Metadata metadata;
  GgufToWrite model = to_write(metadata, tensors);
  model.bytes_of = [](size_t) -> std::span<const std::byte> { fail(ErrorKind::runtime, "no more"); };
  EXPECT_THROW(write_gguf(path, model), Error);
  EXPECT_EQ(read_file(path, 100), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(GgufWriter, RefusesWhatTheDiskCannotHold) {
  const TemporaryFolder folder;
  const Metadata metadata;
  const std::vector<NamedTensor> tensors = {{"huge", Tensor(nullptr, Dtype::f32, {int64_t{1} << 58})}};
  try {
    write_gguf(folder.path() / "m.gguf", to_write(metadata, tensors));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::does_not_fit);
  }
}

}  // namespace
}  // namespace millrace::gguf
