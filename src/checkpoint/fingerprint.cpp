#include "checkpoint/fingerprint.h"

#include <sys/stat.h>

#include <algorithm>

#include "base/sha256.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSampleBytes = 4096;

class Text {
 public:
  template <class T>
  void add(const std::vector<T>& values) {
    for (const T value : values) add(value);
  }
  void add(const std::vector<std::string_view>&) {}  // a vocabulary: bits do not depend on it
  void add(std::string_view value) {
    add(static_cast<int64_t>(value.size()));
    bytes_ += value;
  }
  void add(bool value) { add(int64_t{value}); }
  void add(double value) { add_bytes(&value, sizeof value); }
  void add(int64_t value) { add_bytes(&value, sizeof value); }
  void add_bytes(const void* data, size_t n) { bytes_.append(static_cast<const char*>(data), n); }

  std::string digest() const { return hex_of(sha256(bytes_)); }

 private:
  std::string bytes_;
};

// At its beginning, middle and end.
void add_samples(Text& text, const Tensor& tensor) {
  const int64_t n_bytes = tensor.n_bytes(), n = std::min(kSampleBytes, n_bytes);
  for (const int64_t at : {int64_t{0}, (n_bytes - n) / 2, n_bytes - n})
    text.add_bytes(tensor.data + at, static_cast<size_t>(n));
}

void add_file(Text& text, const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return;
  text.add(path.filename().string());
  for (const int64_t value :
       {int64_t{info.st_size}, int64_t{info.st_mtim.tv_sec}, int64_t{info.st_mtim.tv_nsec}})
    text.add(value);
}

}  // namespace

std::string fingerprint_of(const Checkpoint& checkpoint, const fs::path& path) {
  Text text;
  for (const auto& [key, value] : checkpoint.metadata().entries()) {
    text.add(key);
    std::visit([&](const auto& each) { text.add(each); }, value);
  }
  for (const NamedTensor& named : checkpoint.tensors()) {
    text.add(named.name);
    text.add(static_cast<int64_t>(named.tensor.dtype));
    for (const int64_t dim : named.tensor.shape) text.add(dim);
    add_samples(text, named.tensor);
  }
  std::vector<fs::path> files{path};
  std::error_code error;
  for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error))
    files.push_back(it->path());
  std::ranges::sort(files);
  for (const fs::path& file : files) add_file(text, file);
  return text.digest();
}

}  // namespace millrace
