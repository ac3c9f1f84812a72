#include "backend/split/mirror.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace millrace::split {

Mirror::Runs::iterator Mirror::cut(size_t at) {
  const auto run = std::prev(runs_.upper_bound(at));
  return run->first == at ? run : runs_.emplace_hint(std::next(run), at, run->second);
}

void Mirror::set(size_t begin, size_t end, Newest newest) {
  const auto first = cut(begin);
  const auto last = end < n_bytes() ? cut(end) : runs_.end();
  first->second = newest;
  runs_.erase(std::next(first), last);
  if (last != runs_.end() && last->second == newest) runs_.erase(last);
  if (first != runs_.begin() && std::prev(first)->second == newest) runs_.erase(first);
}

void Mirror::bring(std::span<const std::byte> bytes, Side side) {
  const auto begin = static_cast<size_t>(bytes.data() - program_.data());
  const size_t end = begin + bytes.size();
  const Newest elsewhere = only(side == Side::program ? Side::device : Side::program);
  for (auto run = std::prev(runs_.upper_bound(begin)); run != runs_.end() && run->first < end;) {
    const size_t from = std::max(run->first, begin);
    const auto next = std::next(run);
    const size_t to = std::min(next == runs_.end() ? n_bytes() : next->first, end);
    if (run->second == elsewhere) {
      const std::span<std::byte> half(program_.data() + from, to - from);
      if (side == Side::program) {
        device_.memory().read(device_.data() + from, half);
      } else {
        device_.memory().write(device_.data() + from, half);
      }
      set(from, to, Newest::both);
    }
    run = runs_.lower_bound(to);
  }
}

void Mirror::note_written(std::span<const std::byte> bytes, Side side) {
  const auto begin = static_cast<size_t>(bytes.data() - program_.data());
  set(begin, begin + bytes.size(), only(side));
}

void Mirror::write(std::byte* to, std::span<const std::byte> from) {
  std::memcpy(to, from.data(), from.size());
  device_.memory().write(on(Side::device, to), from);
  const auto begin = static_cast<size_t>(to - program_.data());
  set(begin, begin + from.size(), Newest::both);
}

}  // namespace millrace::split
