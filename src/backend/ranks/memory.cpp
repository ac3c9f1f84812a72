#include "backend/ranks/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <limits>
#include <string>

#include "tensor/by_address.h"

namespace millrace::ranks {

// Each rank for itself: what one waits for on its device may be what another never gives, since its own has
// failed. That one finds out, and makes all others give up.
void RanksMemory::wait() {
  if (!memories_.front()->is_of_program()) workers_.give([this](int rank) { memory(rank).wait(); });
  workers_.finish();
}

std::byte* RanksMemory::allocate(size_t n_bytes) {
  wait();
  std::vector<Buffer> buffers;
  for (Memory* each : memories_) buffers.emplace_back(n_bytes, *each);
  std::byte* const begin = buffers.front().data();
  buffers_.emplace(begin, std::move(buffers));
  return begin;
}

void RanksMemory::release(std::byte* memory, size_t /*n_bytes*/) {
  workers_.wait();
  buffers_.erase(memory);
}

int64_t RanksMemory::free_bytes() const {
  int64_t n_bytes = std::numeric_limits<int64_t>::max();
  for (const Memory* each : memories_) n_bytes = std::min(n_bytes, each->free_bytes());
  return n_bytes;
}

std::vector<Memory*> RanksMemory::parts() {
  std::vector<Memory*> parts;
  for (Memory* each : memories_) {
    if (std::ranges::find(parts, each) == parts.end()) parts.push_back(each);
  }
  return parts;
}

int64_t RanksMemory::n_copies(const Memory& part) const { return std::ranges::count(memories_, &part); }

std::byte* RanksMemory::on(int rank, const std::byte* address) const {
  const auto* const last = last_until(buffers_, address);
  check(last != nullptr && address < last->first + last->second.front().n_bytes(), "memory of the ranks");
  return last->second[static_cast<size_t>(rank)].data() + (address - last->first);
}

const KeptTensor* RanksMemory::kept(const std::byte* address) const {
  const auto* const last = last_until(kept_, address);
  const bool is_there = last != nullptr && address < last->first + last->second.whole.n_bytes();
  return is_there ? &last->second : nullptr;
}

const Cut* RanksMemory::cut_of(const KeptName& name) const {
  const auto found = plan_.kept.find({name.layer, std::string(name.name)});
  return found == plan_.kept.end() ? nullptr : &found->second;
}

void RanksMemory::keep(const Tensor& tensor, const KeptName& name) {
  if (tensor.n_bytes() == 0) return;
  const Cut* const cut = cut_of(name);
  KeptTensor kept{.whole = tensor, .cut = cut, .on = {}};
  for (int rank = 0; rank < n_ranks(); ++rank) {
    const Tensor local = cut == nullptr ? tensor : cut->local_shape(tensor, rank);
    kept.on.emplace_back(static_cast<size_t>(local.n_bytes()), memory(rank));
  }
  kept_.emplace(tensor.data, std::move(kept));
}

int64_t RanksMemory::kept_bytes(const Tensor& tensor, const KeptName& name, const Memory& part) {
  const Cut* const cut = cut_of(name);
  int64_t n_bytes = 0;
  for (int rank = 0; rank < n_ranks(); ++rank) {
    if (memories_[static_cast<size_t>(rank)] != &part) continue;
    n_bytes += aligned((cut == nullptr ? tensor : cut->local_shape(tensor, rank)).n_bytes());
  }
  return n_bytes;
}

namespace {

// The pieces of a rank of [begin, end) of a kept tensor.
std::vector<Piece> pieces_of(const KeptTensor& kept, int rank, int64_t begin, int64_t end) {
  if (kept.cut == nullptr) return {{begin, begin, end - begin}};
  return pieces(kept.whole, *kept.cut, rank, begin, end);
}

}  // namespace

void RanksMemory::write(std::byte* to, std::span<const std::byte> from) {
  if (from.empty()) return;
  wait();
  const KeptTensor* const kept = this->kept(to);
  for (int rank = 0; rank < n_ranks(); ++rank) {
    if (kept == nullptr) {
      memory(rank).write(on(rank, to), from);
      continue;
    }
    const int64_t begin = to - kept->whole.data;
    for (const Piece& piece : pieces_of(*kept, rank, begin, begin + std::ssize(from)))
      memory(rank).write(
          kept->on[static_cast<size_t>(rank)].data() + piece.local_begin,
          from.subspan(static_cast<size_t>(piece.whole_begin - begin), static_cast<size_t>(piece.n_bytes)));
  }
}

void RanksMemory::read(const std::byte* from, std::span<std::byte> to) {
  if (to.empty()) return;
  wait();
  const KeptTensor* const kept = this->kept(from);
  if (kept == nullptr) return memory(0).read(on(0, from), to);
  const int64_t begin = from - kept->whole.data;
  for (int rank = 0; rank < (kept->cut == nullptr ? 1 : n_ranks()); ++rank) {
    for (const Piece& piece : pieces_of(*kept, rank, begin, begin + std::ssize(to)))
      memory(rank).read(
          kept->on[static_cast<size_t>(rank)].data() + piece.local_begin,
          to.subspan(static_cast<size_t>(piece.whole_begin - begin), static_cast<size_t>(piece.n_bytes)));
  }
}

// Of what is kept: pages or slots, which every rank has at the same place of its own.
void RanksMemory::copy(const std::byte* from, std::byte* to, size_t n_bytes) {
  if (n_bytes == 0) return;
  wait();
  const KeptTensor* const kept = this->kept(from);
  check(kept == this->kept(to), "a copy within what one layer keeps, or within activations");
  for (int rank = 0; rank < n_ranks(); ++rank) {
    if (kept == nullptr) {
      memory(rank).copy(on(rank, from), on(rank, to), n_bytes);
      continue;
    }
    const auto pieces_at = [&](const std::byte* at) {
      const int64_t begin = at - kept->whole.data;
      return pieces_of(*kept, rank, begin, begin + static_cast<int64_t>(n_bytes));
    };
    const std::vector<Piece> all = pieces_at(from), others = pieces_at(to);
    check(all.size() == others.size(), "whole pages");
    std::byte* const local = kept->on[static_cast<size_t>(rank)].data();
    for (size_t i = 0; i < all.size(); ++i)
      memory(rank).copy(local + all[i].local_begin, local + others[i].local_begin,
                        static_cast<size_t>(all[i].n_bytes));
  }
}

std::byte* RanksMemory::KeptRoom::allocate(size_t n_bytes) {
  void* mapped = ::mmap(nullptr, n_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) fail(ErrorKind::does_not_fit, "cannot reserve {} bytes of addresses", n_bytes);
  return static_cast<std::byte*>(mapped);
}

void RanksMemory::KeptRoom::release(std::byte* memory, size_t n_bytes) {
  all_.workers_.wait();
  const auto first = all_.kept_.lower_bound(memory);
  all_.kept_.erase(first, all_.kept_.lower_bound(memory + n_bytes));
  ::munmap(memory, n_bytes);
}

}  // namespace millrace::ranks
