#include "backend/cuda/emulation/device.h"

#include <sys/mman.h>

namespace millrace::cuda::emulated {
namespace {

constexpr size_t kPage = 4096;

using Work = std::vector<std::function<void()>>;

class EmulatedGraph final : public Graph {
 public:
  EmulatedGraph(EmulatedDevice& device, Work work)
      : device_(device), work_(std::make_shared<const Work>(std::move(work))) {}
  void launch() override {
    device_.give([work = work_] {
      for (const auto& each : *work) each();
    });
  }

 private:
  EmulatedDevice& device_;
  std::shared_ptr<const Work> work_;  // of what was launched, too
};

class EmulatedTransfer final : public Transfer {
 public:
  EmulatedTransfer(EmulatedDevice& device, size_t n_bytes) : device_(device), room_(n_bytes) {}
  EmulatedTransfer(const EmulatedTransfer&) = delete;
  EmulatedTransfer& operator=(const EmulatedTransfer&) = delete;
  ~EmulatedTransfer() override { EmulatedTransfer::wait(); }

  std::span<std::byte> room() override { return room_; }
  void write(std::byte* to, std::span<const std::byte> from) override {
    give([this, to, from] { device_.write_now(to, from); });
  }
  void read(const std::byte* from, std::span<std::byte> to) override {
    give([this, from, to] { device_.read_now(from, to); });
  }
  void wait() override {
    check(!device_.is_capturing(), "no wait among what is captured");
    device_.do_until(n_given_);
  }

 private:
  void give(std::function<void()> work) {
    check(!device_.is_capturing(), "no copy from or to the program among what is captured");
    device_.give(std::move(work));
    n_given_ = device_.n_given();
  }

  EmulatedDevice& device_;
  std::vector<std::byte> room_;
  int64_t n_given_ = 0;  // with the last copy
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
  wait();
  check_inside(memory, n_bytes);
  {
    const Open open(*this);  // who still reads it finds NaN
    std::memset(memory, 0xff, n_bytes);
  }
  pieces_.erase(static_cast<size_t>(memory - memory_));
  used_bytes_ -= n_bytes;
}

bool EmulatedDevice::is_allocated(uintptr_t at, size_t n_bytes) const {
  const size_t begin = at - reinterpret_cast<uintptr_t>(memory_);
  auto piece = pieces_.upper_bound(begin);
  return piece != pieces_.begin() && begin + n_bytes <= (--piece)->second;
}

void EmulatedDevice::check_inside(const std::byte* memory, size_t n_bytes) const {
  check(is_allocated(reinterpret_cast<uintptr_t>(memory), n_bytes), "memory that is allocated");
}

void EmulatedDevice::write(std::byte* to, std::span<const std::byte> from) {
  wait();
  write_now(to, from);
}

void EmulatedDevice::read(const std::byte* from, std::span<std::byte> to) {
  wait();
  read_now(from, to);
}

void EmulatedDevice::write_now(std::byte* to, std::span<const std::byte> from) {
  if (from.empty()) return;
  check_inside(to, from.size());
  const Open open(*this);
  std::memcpy(to, from.data(), from.size());
}

void EmulatedDevice::read_now(const std::byte* from, std::span<std::byte> to) {
  if (to.empty()) return;
  check_inside(from, to.size());
  const Open open(*this);
  std::memcpy(to.data(), from, to.size());
}

std::unique_ptr<Transfer> EmulatedDevice::transfer(size_t n_bytes) {
  check(!is_capturing_, "no allocation among what is captured");
  return std::make_unique<EmulatedTransfer>(*this, n_bytes);
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
  return std::make_unique<EmulatedGraph>(*this, std::exchange(captured_, {}));
}

void EmulatedDevice::give(std::function<void()> work) {
  if (is_capturing_) return captured_.push_back(std::move(work));
  put_off_.push_back(std::move(work));
  ++n_given_;
}

void EmulatedDevice::do_until(int64_t n_given) {
  while (n_given_ - std::ssize(put_off_) < n_given) {
    const std::function<void()> next = std::move(put_off_.front());
    put_off_.pop_front();
    next();
  }
}

void EmulatedDevice::wait() {
  check(!is_capturing_, "no wait among what is captured");
  do_until(n_given_);
}

void EmulatedDevice::protect(int protection) {
  if (end_ > 0) check(::mprotect(memory_, end_, protection) == 0, "memory that can be opened and closed");
}

EmulatedDevice::Open::Open(EmulatedDevice& device) : device_(device) {
  device_.protect(PROT_READ | PROT_WRITE);
}
EmulatedDevice::Open::~Open() { device_.protect(PROT_NONE); }

}  // namespace millrace::cuda::emulated
