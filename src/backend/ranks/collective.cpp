#include "backend/ranks/collective.h"

#include "base/await_change.h"
#include "base/error.h"

namespace millrace {

void SharedCollective::meet() {
  const uint32_t meeting = n_meetings_.load(std::memory_order_acquire);
  if (n_here_.fetch_add(1, std::memory_order_acq_rel) + 1 == memories_.size()) {
    n_here_.store(0, std::memory_order_relaxed);
    n_meetings_.fetch_add(1, std::memory_order_release);
    n_meetings_.notify_all();
  } else if (!has_given_up_) {
    await_change(n_meetings_, meeting);
  }
  if (has_given_up_) fail(ErrorKind::runtime, "a rank has given up");
}

void SharedCollective::all_gather(int rank, std::span<const std::byte> from, std::byte* to) {
  const auto me = static_cast<size_t>(rank);
  Memory& memory = *memories_[me];
  if (memory.is_of_program()) {
    given_[me] = from;
  } else {
    staged_[me].resize(from.size());
    memory.read(from.data(), staged_[me]);
    given_[me] = staged_[me];
  }
  meet();
  for (const std::span<const std::byte> given : given_) {
    memory.write(to, given);
    to += given.size();
  }
  meet();  // until then nobody changes what it has given
}

void SharedCollective::give_up() {
  has_given_up_ = true;
  n_meetings_.fetch_add(1, std::memory_order_release);
  n_meetings_.notify_all();
}

void SharedCollective::begin_again() {
  n_here_ = 0;
  has_given_up_ = false;
}

}  // namespace millrace
