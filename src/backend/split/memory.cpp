#include "backend/split/memory.h"

#include "base/error.h"
#include "tensor/by_address.h"

namespace millrace::split {

std::byte* DevicePart::allocate(size_t n_bytes) {
  std::byte* const memory = inner_.allocate(n_bytes);
  sizes_.emplace(memory, n_bytes);
  return memory;
}

void DevicePart::release(std::byte* memory, size_t n_bytes) {
  sizes_.erase(memory);
  inner_.release(memory, n_bytes);
}

bool DevicePart::has(const std::byte* address) const {
  const auto* const last = last_until(sizes_, address);
  return last != nullptr && address < last->first + last->second;
}

std::byte* SplitMemory::allocate(size_t n_bytes) {
  Mirror mirror(n_bytes, device_);
  std::byte* const begin = mirror.begin();
  mirrors_.emplace(begin, std::move(mirror));
  return begin;
}

void SplitMemory::release(std::byte* memory, size_t /*n_bytes*/) { mirrors_.erase(memory); }

Memory& SplitMemory::of_layer(int64_t layer) {
  if (device_layers_.at(static_cast<size_t>(layer))) return device_;
  return program_memory();
}

Mirror* SplitMemory::mirror_of(const std::byte* address) {
  auto* const last = last_until(mirrors_, address);
  return last != nullptr && address < last->first + last->second.n_bytes() ? &last->second : nullptr;
}

void SplitMemory::write(std::byte* to, std::span<const std::byte> from) {
  if (from.empty()) return;
  if (Mirror* mirror = mirror_of(to)) return mirror->write(to, from);
  (side_of(to) == Side::device ? device_ : program_memory()).write(to, from);
}

void SplitMemory::read(const std::byte* from, std::span<std::byte> to) {
  if (to.empty()) return;
  Mirror* const mirror = mirror_of(from);
  if (mirror != nullptr) mirror->bring({from, to.size()}, Side::program);
  (mirror == nullptr && side_of(from) == Side::device ? device_ : program_memory()).read(from, to);
}

void SplitMemory::copy(const std::byte* from, std::byte* to, size_t n_bytes) {
  if (n_bytes == 0) return;
  if (mirror_of(from) != nullptr || mirror_of(to) != nullptr) {
    std::vector<std::byte> bytes(n_bytes);
    read(from, bytes);
    return write(to, bytes);
  }
  check(side_of(from) == side_of(to), "a copy within what one layer keeps");
  (side_of(from) == Side::device ? device_ : program_memory()).copy(from, to, n_bytes);
}

}  // namespace millrace::split
