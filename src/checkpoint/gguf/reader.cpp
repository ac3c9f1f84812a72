// Opens GGUF files: the header, and the files of a split model put together.
#include <algorithm>
#include <iterator>
#include <string>

#include "base/file.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf/layout.h"
#include "checkpoint/gguf/parts.h"
#include "checkpoint/listed_checkpoint.h"

namespace millrace {
namespace gguf {
namespace {

struct Content {
  Metadata metadata;
  std::vector<NamedTensor> tensors;
};

[[noreturn]] void refuse_magic(const ByteReader& in, std::string_view magic) {
  if (magic == "vers") in.refuse("expected a GGUF file, found what looks like a Git LFS pointer to one");
  if (magic == "tjgg" || magic == "fmgg" || magic == "lmgg" || magic == "algg") {
    in.refuse("expected a GGUF file, found one of the GGML formats that came before it");
  }
  in.refuse("expected a GGUF file, which begins with \"{}\", found \"{}\"", kMagic, printable(magic));
}

void read_magic_and_version(ByteReader& in) {
  const size_t n = std::min(in.n_left(), kMagic.size());
  const std::string_view magic(reinterpret_cast<const char*>(in.bytes(n, "the magic").data()), n);
  if (magic != kMagic) refuse_magic(in, magic);
  const auto version = in.read<uint32_t>("the version");
  if (version != 0 && (version & 0xffff) == 0) {
    in.refuse("expected a little-endian GGUF file, found a big-endian one, which is not supported");
  }
  if (version < kOldestVersion || version > kVersion) {
    in.refuse("expected GGUF version {} or {}, found version {}", kOldestVersion, kVersion, version);
  }
}

Content read(std::span<const std::byte> file, std::string_view name, uint64_t& memory_left) {
  ByteReader in(file, name, memory_left);
  read_magic_and_version(in);
  const auto n_tensors = in.read<uint64_t>("the number of tensors");
  const auto n_entries = in.read<uint64_t>("the number of metadata entries");
  Content content;
  content.metadata = read_metadata(in, n_entries);
  const auto alignment = content.metadata.get_or<int64_t>(kAlignmentKey, kDefaultAlignment);
  content.tensors = read_tensors(in, n_tensors, static_cast<uint64_t>(alignment));
  return content;
}

class GgufCheckpoint final : public ListedCheckpoint {
 public:
  GgufCheckpoint(std::vector<MappedFile> files, Content content)
      : ListedCheckpoint(std::move(content.tensors)),
        files_(std::move(files)),
        metadata_(std::move(content.metadata)) {}

  const Metadata& metadata() const override { return metadata_; }
  std::vector<std::span<const std::byte>> mapped_files() const override { return bytes_of(files_); }

 private:
  std::vector<MappedFile> files_;
  Metadata metadata_;
};

// One file of a split model, as its keys say.
struct Place {
  int64_t index;
  int64_t n_files;
};

constexpr int64_t kMaxFiles = 65535;

Place place_of(const Metadata& metadata, std::string_view name) {
  const Place place{metadata.get_or<int64_t>("split.no", 0), metadata.get_or<int64_t>("split.count", 1)};
  if (place.n_files >= 0 && place.n_files <= 1 && place.index == 0) return {0, 1};
  if (place.n_files < 1 || place.n_files > kMaxFiles || place.index < 0 || place.index >= place.n_files) {
    fail(ErrorKind::bad_model, "{}: expected a place in a split model, found split.no {} and split.count {}",
         printable(name), place.index, place.n_files);
  }
  return place;
}

std::string split_suffix(Place place) {
  return fmt::format("-{:05d}-of-{:05d}.gguf", place.index + 1, place.n_files);
}

// What stands before the suffix that the file's place demands of its name.
std::string split_prefix(const std::filesystem::path& path, Place place) {
  const std::string name = path.filename().string();
  const std::string suffix = split_suffix(place);
  if (!name.ends_with(suffix)) {
    fail(ErrorKind::bad_model, "{}: expected a name that ends in \"{}\", as its split.no and split.count say",
         printable(name), suffix);
  }
  return name.substr(0, name.size() - suffix.size());
}

void append_file(const std::filesystem::path& path, Place place, std::vector<MappedFile>& files,
                 Content& content, uint64_t& memory_left) {
  const std::string name = path.filename().string();
  files.emplace_back(path);
  Content part = read(files.back().bytes(), name, memory_left);
  const Place found = place_of(part.metadata, name);
  if (found.index != place.index || found.n_files != place.n_files) {
    fail(ErrorKind::bad_model, "{}: expected file {} of {} of a split model, found file {} of {}",
         printable(name), place.index + 1, place.n_files, found.index + 1, found.n_files);
  }
  std::ranges::move(part.tensors, std::back_inserter(content.tensors));
}

void append_siblings(const std::filesystem::path& path, int64_t n_files, std::vector<MappedFile>& files,
                     Content& content, uint64_t& memory_left) {
  const std::string prefix = split_prefix(path, {0, n_files});
  for (int64_t i = 1; i < n_files; ++i) {
    const Place place{i, n_files};
    append_file(path.parent_path() / (prefix + split_suffix(place)), place, files, content, memory_left);
  }
  const auto n_tensors = static_cast<int64_t>(content.tensors.size());
  const auto n_expected = content.metadata.get_or<int64_t>("split.tensors.count", n_tensors);
  if (n_tensors != n_expected) {
    fail(ErrorKind::bad_model, "{}: expected {} tensors in the files of this split model, found {}",
         printable(path.filename().string()), n_expected, n_tensors);
  }
}

}  // namespace
}  // namespace gguf

std::unique_ptr<Checkpoint> open_gguf(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  uint64_t memory_left = gguf::kMemoryLimit;
  std::vector<MappedFile> files;
  files.emplace_back(path);
  gguf::Content content = gguf::read(files.back().bytes(), name, memory_left);
  const gguf::Place place = gguf::place_of(content.metadata, name);
  if (place.index != 0) {
    fail(ErrorKind::bad_model, "{} is file {} of {} of a split model: give the first, {}", printable(name),
         place.index + 1, place.n_files,
         printable(gguf::split_prefix(path, place) + gguf::split_suffix({0, place.n_files})));
  }
  if (place.n_files > 1) gguf::append_siblings(path, place.n_files, files, content, memory_left);
  return std::make_unique<gguf::GgufCheckpoint>(std::move(files), std::move(content));
}

std::unique_ptr<Checkpoint> parse_gguf(std::span<const std::byte> file, std::string_view name) {
  uint64_t memory_left = gguf::kMemoryLimit;
  return std::make_unique<gguf::GgufCheckpoint>(std::vector<MappedFile>(),
                                                gguf::read(file, name, memory_left));
}

}  // namespace millrace
