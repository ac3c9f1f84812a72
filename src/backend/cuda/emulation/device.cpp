#include "backend/cuda/emulation/device.h"

#include <sys/mman.h>

namespace millrace::cuda::emulated {
namespace {

constexpr size_t kPage = 4096;

class EmulatedGraph final : public Graph {
 public:
  explicit EmulatedGraph(std::vector<std::function<void()>> work) : work_(std::move(work)) {}
  void launch() override {
    for (const auto& each : work_) each();
  }

 private:
  std::vector<std::function<void()>> work_;
};

}  // namespace

EmulatedDevice::EmulatedDevice(Order order) : order_(order) {
  void* mapped = ::mmap(nullptr, kRoom, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) fail(ErrorKind::does_not_fit, "cannot reserve {} bytes of addresses", kRoom);
  memory_ = static_cast<std::byte*>(mapped);
}

EmulatedDevice::~EmulatedDevice() { ::munmap(memory_, kRoom); }

// The first gap that is wide enough.
std::byte* EmulatedDevice::allocate(size_t n_bytes) {
  check(!is_capturing_, "no allocation among what is captured");
  size_t begin = 0;
  for (const auto& [from, to] : pieces_) {
    if (from >= begin + n_bytes + kPage) break;
    begin = (to + 2 * kPage - 1) / kPage * kPage;
  }
  if (begin + n_bytes > kRoom) fail(ErrorKind::does_not_fit, "cannot allocate {} bytes of memory", n_bytes);
  pieces_[begin] = begin + n_bytes;
  used_bytes_ += n_bytes;
  end_ = std::max(end_, (begin + n_bytes + kPage - 1) / kPage * kPage);
  ::madvise(memory_ + begin, n_bytes, MADV_DONTNEED);  // zeros when it is touched next
  return memory_ + begin;
}

void EmulatedDevice::release(std::byte* memory, size_t n_bytes) {
  check_inside(memory, n_bytes);
  {
    const Open open(*this);  // who still reads it finds NaN
    std::memset(memory, 0xff, n_bytes);
  }
  pieces_.erase(static_cast<size_t>(memory - memory_));
  used_bytes_ -= n_bytes;
}

void EmulatedDevice::check_inside(const std::byte* memory, size_t n_bytes) const {
  const auto begin = static_cast<size_t>(memory - memory_);
  auto piece = pieces_.upper_bound(begin);
  check(piece != pieces_.begin() && begin + n_bytes <= (--piece)->second, "memory that is allocated");
}

void EmulatedDevice::write(std::byte* to, std::span<const std::byte> from) {
  check(!is_capturing_, "no copy from the program among what is captured");
  if (from.empty()) return;
  check_inside(to, from.size());
  const Open open(*this);
  std::memcpy(to, from.data(), from.size());
}

void EmulatedDevice::read(const std::byte* from, std::span<std::byte> to) {
  check(!is_capturing_, "no copy to the program among what is captured");
  if (to.empty()) return;
  check_inside(from, to.size());
  const Open open(*this);
  std::memcpy(to.data(), from, to.size());
}

void EmulatedDevice::copy(const std::byte* from, std::byte* to, size_t n_bytes) {
  if (n_bytes == 0) return;
  check_inside(from, n_bytes);
  check_inside(to, n_bytes);
  give([this, from, to, n_bytes] {
    const Open open(*this);
    std::memcpy(to, from, n_bytes);
  });
}

void EmulatedDevice::begin_capture() {
  check(!is_capturing_, "one capture at a time");
  is_capturing_ = true;
}

std::unique_ptr<Graph> EmulatedDevice::end_capture() {
  check(is_capturing_, "a capture that has begun");
  is_capturing_ = false;
  return std::make_unique<EmulatedGraph>(std::exchange(captured_, {}));
}

void EmulatedDevice::give(std::function<void()> work) {
  if (is_capturing_) {
    captured_.push_back(std::move(work));
  } else {
    work();
  }
}

void EmulatedDevice::protect(int protection) {
  if (end_ > 0) check(::mprotect(memory_, end_, protection) == 0, "memory that can be opened and closed");
}

EmulatedDevice::Open::Open(EmulatedDevice& device) : device_(device) {
  device_.protect(PROT_READ | PROT_WRITE);
}
EmulatedDevice::Open::~Open() { device_.protect(PROT_NONE); }

}  // namespace millrace::cuda::emulated
