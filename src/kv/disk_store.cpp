#include "kv/disk_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <queue>
#include <utility>
#include <vector>

#include "base/descriptor.h"
#include "base/error.h"
#include "base/log.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[8] = {'M', 'R', 'P', 'A', 'G', 'E', '0', '1'};
constexpr std::string_view kUnfinished = ".part";
constexpr std::chrono::seconds kRetryAfter{60};
constexpr int64_t kBlockBytes = 4096;  // a file takes whole ones
// Nobody writes a record for so long: who began it is gone.
constexpr int64_t kAbandonedAfterSeconds = 600;

struct Header {
  char magic[8];
  Digest identity, key;
  uint64_t n_bytes;
  uint64_t checksum;  // of the content, and of the header with 0 in its place
};

// Four sums beside each other, so that memory is the limit. Against accidents; names are what protects from
// malice.
uint64_t checksum_of(std::span<const std::byte> bytes, uint64_t seed) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15, kOther = 0xc2b2ae3d27d4eb4f;
  const auto word_at = [&](size_t at) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min<size_t>(8, bytes.size() - at));
    return word;
  };
  const auto mixed = [](uint64_t sum, uint64_t word) {
    sum = (sum ^ word) * kOdd;
    return sum << 29 | sum >> 35;
  };
  uint64_t sums[4] = {seed, seed + kOdd, seed + kOther, seed ^ kOther};
  size_t at = 0;
  for (; at + 32 <= bytes.size(); at += 32) {
    for (size_t i = 0; i < 4; ++i) sums[i] = mixed(sums[i], word_at(at + 8 * i));
  }
  for (; at < bytes.size(); at += 8) sums[0] = mixed(sums[0], word_at(at));
  uint64_t sum = bytes.size();
  for (const uint64_t each : sums) sum = mixed(sum ^ each >> 31, each) * kOther;
  return sum ^ sum >> 32;
}

uint64_t checksum_of(Header header, std::span<const std::byte> content) {
  header.checksum = 0;
  return checksum_of(content, checksum_of(std::as_bytes(std::span(&header, 1)), 1));
}

// Just these bytes, the next ones.
bool read_whole(int fd, std::span<std::byte> bytes) {
  return read_all(fd, bytes) == static_cast<ssize_t>(bytes.size());
}

// For its owner alone; those above it as usual.
bool make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  return ::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST;
}

bool is_unfinished(const fs::path& path) { return path.native().ends_with(kUnfinished); }

// Of this process and this call alone.
fs::path name_beside(const fs::path& path) {
  static std::atomic<uint64_t> n_names{0};
  fs::path name = path;
  name += fmt::format(".{}.{}{}", ::getpid(), ++n_names, kUnfinished);
  return name;
}

struct Found {
  int64_t used_s, used_ns;
  int64_t n_bytes;
  std::string path;  // there are many, and a fs::path takes four times the memory

  bool operator<(const Found& other) const {
    return std::pair(used_s, used_ns) < std::pair(other.used_s, other.used_ns);
  }
};

// Calls `use` with each record below `dir`, without what was begun and abandoned.
template <class Use>
void for_each_record(const fs::path& dir, Use use) {
  std::error_code error;
  const int64_t now_s = ::time(nullptr);
  const auto options = fs::directory_options::skip_permission_denied;
  for (fs::recursive_directory_iterator it(dir, options, error), end; !error && it != end;
       it.increment(error)) {
    struct stat info {};
    if (it.depth() != 2 || ::lstat(it->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    const int64_t used_s = info.st_mtim.tv_sec;
    if (!is_unfinished(it->path())) {
      use(Found{used_s, info.st_mtim.tv_nsec, int64_t{info.st_blocks} * 512, it->path().string()});
    } else if (now_s - used_s > kAbandonedAfterSeconds) {
      ::unlink(it->path().c_str());
    }
  }
}

// The least recently used records that have `n_bytes` together. No more of them are held at once: in a folder
// of a million the names alone would take 150 MB.
std::vector<Found> oldest_records(const fs::path& dir, int64_t n_bytes) {
  std::priority_queue<Found> oldest;  // the newest of them on top
  int64_t n_held = 0;
  for_each_record(dir, [&](Found&& found) {
    n_held += found.n_bytes;
    oldest.push(std::move(found));
    while (n_held - oldest.top().n_bytes >= n_bytes) {
      n_held -= oldest.top().n_bytes;
      oldest.pop();
    }
  });
  std::vector<Found> out;
  for (; !oldest.empty(); oldest.pop()) out.push_back(oldest.top());
  return out;
}

}  // namespace

DiskStore::DiskStore(fs::path dir, std::string_view identity, int64_t max_bytes)
    : dir_(std::move(dir)),
      own_(dir_ / hex_of(sha256(identity)).substr(0, 16)),
      identity_(sha256(identity)),
      max_bytes_(max_bytes) {
  note_others();
}

// Says once why nothing is found where there is something.
void DiskStore::note_others() const {
  std::error_code error;
  if (fs::exists(own_, error)) return;
  for (fs::directory_iterator it(dir_, error), end; !error && it != end; it.increment(error)) {
    if (!it->is_directory(error)) continue;
    return log_info("{} holds prefixes of another model, type of pages or build: they are not used",
                    printable(dir_.string(), 400));
  }
}

fs::path DiskStore::path_of(const PageKey& key) const {
  const std::string name = hex_of(key);
  return own_ / name.substr(0, 2) / name;
}

bool DiskStore::has(const PageKey& key) const { return ::access(path_of(key).c_str(), R_OK) == 0; }

bool DiskStore::read(const PageKey& key, std::span<std::byte> content) const {
  const fs::path path = path_of(key);
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) return false;
  Header header{};
  const bool is_sound =
      S_ISREG(info.st_mode) && static_cast<uint64_t>(info.st_size) == sizeof header + content.size() &&
      read_whole(file.get(), std::as_writable_bytes(std::span(&header, 1))) &&
      std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 && header.identity == identity_ &&
      header.key == key && header.n_bytes == content.size() && read_whole(file.get(), content) &&
      header.checksum == checksum_of(header, content);
  if (is_sound) {
    ::futimens(file.get(), nullptr);  // used now; a folder that is read-only keeps the order of its writing
  } else {
    ::unlink(path.c_str());
    if (!has_told_of_damage_.exchange(true))
      log_warning("a kept prefix was damaged and is computed again, as others may be: {}",
                  printable(path.string(), 400));
  }
  return is_sound;
}

bool DiskStore::write(const PageKey& key, std::span<const std::byte> content) {
  if (has_failed_ && std::chrono::steady_clock::now() < retry_at_) return false;
  const std::string fault = try_write(key, content);
  if (fault.empty()) {
    has_failed_ = false;
    return true;
  }
  if (!std::exchange(has_failed_, true))
    log_warning("no prefixes are kept in {} for now, those that are there are used: {}",
                printable(dir_.string(), 400), fault);
  retry_at_ = std::chrono::steady_clock::now() + kRetryAfter;
  return false;
}

std::string DiskStore::try_write(const PageKey& key, std::span<const std::byte> content) {
  const fs::path path = path_of(key);
  const int64_t n_bytes =
      (static_cast<int64_t>(sizeof(Header) + content.size()) + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  if (has(key)) return "";
  if (n_bytes > max_bytes_)
    return fmt::format("a page takes {} bytes, and {} are allowed", n_bytes, max_bytes_);
  if (!make_folder(dir_) || !make_folder(own_) || !make_folder(path.parent_path()))
    return std::strerror(errno);
  if (n_bytes_ + n_bytes > std::min(max_bytes_, count_again_at_)) make_room(n_bytes);
  const fs::path temporary = name_beside(path);
  Header header{.magic = {}, .identity = identity_, .key = key, .n_bytes = content.size(), .checksum = 0};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.checksum = checksum_of(header, content);
  const Descriptor file(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return std::strerror(errno);
  // Not synced: after a loss of power the checksum tells.
  const bool is_written = write_all(file.get(), std::as_bytes(std::span(&header, 1))) &&
                          write_all(file.get(), content) && ::rename(temporary.c_str(), path.c_str()) == 0;
  const int error = errno;
  if (!is_written) ::unlink(temporary.c_str());
  n_bytes_ += is_written ? n_bytes : 0;
  return is_written ? "" : std::strerror(error);
}

void DiskStore::make_room(int64_t n_wanted) {
  const Descriptor lock(::open((dir_ / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (lock && ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return;  // another process is at it
  n_bytes_ = 0;
  for_each_record(dir_, [this](const Found& found) { n_bytes_ += found.n_bytes; });
  if (n_bytes_ + n_wanted > max_bytes_) {
    const int64_t n_allowed = std::min(max_bytes_ - n_wanted, max_bytes_ / 10 * 9);  // so that this is rare
    for (const Found& found : oldest_records(dir_, n_bytes_ - n_allowed)) {
      if (::unlink(found.path.c_str()) == 0) n_bytes_ -= found.n_bytes;
    }
  }
  count_again_at_ = n_bytes_ + max_bytes_ / 8;  // others may have written too
}

}  // namespace millrace
