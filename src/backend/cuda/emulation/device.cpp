#include "backend/cuda/emulation/device.h"

#include <sys/mman.h>

namespace millrace::cuda::emulated {
namespace {

constexpr size_t kPage = 4096;

}  // namespace

EmulatedDevice::EmulatedDevice(Order order) : order_(order) {
  void* mapped = ::mmap(nullptr, kRoom, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) fail(ErrorKind::does_not_fit, "cannot reserve {} bytes of addresses", kRoom);
  memory_ = static_cast<std::byte*>(mapped);
}

EmulatedDevice::~EmulatedDevice() { ::munmap(memory_, kRoom); }

// The first gap that is wide enough.
std::byte* EmulatedDevice::allocate(size_t n_bytes) {
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
  pieces_.erase(static_cast<size_t>(memory - memory_));
  used_bytes_ -= n_bytes;
}

void EmulatedDevice::check_inside(const std::byte* memory, size_t n_bytes) const {
  const auto begin = static_cast<size_t>(memory - memory_);
  auto piece = pieces_.upper_bound(begin);
  check(piece != pieces_.begin() && begin + n_bytes <= (--piece)->second, "memory that is allocated");
}

void EmulatedDevice::write(std::byte* to, std::span<const std::byte> from) {
  if (from.empty()) return;
  check_inside(to, from.size());
  const Open open(*this);
  std::memcpy(to, from.data(), from.size());
}

void EmulatedDevice::read(const std::byte* from, std::span<std::byte> to) {
  if (to.empty()) return;
  check_inside(from, to.size());
  const Open open(*this);
  std::memcpy(to.data(), from, to.size());
}

void EmulatedDevice::copy(const std::byte* from, std::byte* to, size_t n_bytes) {
  if (n_bytes == 0) return;
  check_inside(from, n_bytes);
  check_inside(to, n_bytes);
  const Open open(*this);
  std::memcpy(to, from, n_bytes);
}

void EmulatedDevice::protect(int protection) {
  if (end_ > 0) check(::mprotect(memory_, end_, protection) == 0, "memory that can be opened and closed");
}

EmulatedDevice::Open::Open(EmulatedDevice& device) : device_(device) {
  device_.protect(PROT_READ | PROT_WRITE);
}
EmulatedDevice::Open::~Open() { device_.protect(PROT_NONE); }

}  // namespace millrace::cuda::emulated
