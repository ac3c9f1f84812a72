// The GPU of the emulation: memory that the program may look into only while a kernel runs. What it is given
// it puts off until somebody waits for it: nothing is done earlier than on the slowest GPU.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "backend/cuda/emulation/threads.h"

namespace millrace::cuda::emulated {

class EmulatedDevice final : public Device {
 public:
  explicit EmulatedDevice(Order order);
  EmulatedDevice(const EmulatedDevice&) = delete;
  EmulatedDevice& operator=(const EmulatedDevice&) = delete;
  ~EmulatedDevice() override;

  std::byte* allocate(size_t n_bytes) override;
  void release(std::byte* memory, size_t n_bytes) override;
  void write(std::byte* to, std::span<const std::byte> from) override;
  void read(const std::byte* from, std::span<std::byte> to) override;
  void copy(const std::byte* from, std::byte* to, size_t n_bytes) override;
  std::unique_ptr<Transfer> transfer(size_t n_bytes) override;
  void* stream() override { return nullptr; }
  int n_processors() const override { return 4; }
  std::string model() const override { return "emulation"; }
  int64_t free_bytes() const override { return static_cast<int64_t>(kRoom - used_bytes_); }
  void wait() override;
  void begin_capture() override;
  std::unique_ptr<Graph> end_capture() override;

  // Of copies, when their turn has come.
  void write_now(std::byte* to, std::span<const std::byte> from);
  void read_now(const std::byte* from, std::span<std::byte> to);

  bool is_capturing() const { return is_capturing_; }
  Order order() const { return order_; }
  // Whether it is of the device, and whether so many bytes from it on are allocated, in one piece.
  bool is_address(uintptr_t at) const { return at - reinterpret_cast<uintptr_t>(memory_) < kRoom; }
  bool is_allocated(uintptr_t at, size_t n_bytes) const;
  // To be done in its turn, or to be kept while the device captures.
  void give(std::function<void()> work);
  int64_t n_given() const { return n_given_; }
  int64_t n_put_off() const { return std::ssize(put_off_); }
  // Does what is left of the first so many that were given.
  void do_until(int64_t n_given);

  // Lets the program look into the memory while it lives.
  class Open {
   public:
    explicit Open(EmulatedDevice& device);
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;
    ~Open();

   private:
    EmulatedDevice& device_;
  };

 private:
  static constexpr size_t kRoom = size_t{1} << 36;  // of addresses: pages that nobody touches cost nothing

  void protect(int protection);
  void check_inside(const std::byte* memory, size_t n_bytes) const;

  Order order_;
  std::byte* memory_ = nullptr;
  size_t end_ = 0;                   // of all that has been allocated
  size_t used_bytes_ = 0;            // of what is allocated
  std::map<size_t, size_t> pieces_;  // that are allocated: where they begin and end
  bool is_capturing_ = false;
  std::vector<std::function<void()>> captured_;
  int64_t n_given_ = 0;
  std::deque<std::function<void()>> put_off_;  // the last ones of those
};

}  // namespace millrace::cuda::emulated
