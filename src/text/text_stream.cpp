#include "text/text_stream.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "text/unicode.h"

namespace millrace {
namespace {

struct Found {
  size_t at = std::string_view::npos;
  const std::string* stop = nullptr;
};

// The stop string that ends first, as if the text had come byte by byte; of two that end together the longer.
Found first_stop(std::string_view text, const std::vector<std::string>& stops) {
  Found found;
  for (const std::string& stop : stops) {
    const size_t at = text.find(stop);
    if (at == std::string_view::npos) continue;
    const size_t end = at + stop.size();
    const size_t best_end = found.stop == nullptr ? std::string_view::npos : found.at + found.stop->size();
    if (end < best_end || (end == best_end && at < found.at)) found = {at, &stop};
  }
  return found;
}

// The first place from which on the rest of `text` begins one of the stop strings.
size_t held_from(std::string_view text, const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) longest = std::max(longest, stop.size());
  const size_t first = text.size() < longest ? 0 : text.size() - longest + 1;
  for (size_t at = first; at < text.size(); ++at) {
    const std::string_view rest = text.substr(at);
    const auto begins = [rest](const std::string& stop) { return stop.starts_with(rest); };
    if (std::ranges::any_of(stops, begins)) return at;
  }
  return text.size();
}

}  // namespace

TextStream::TextStream(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
  for (std::string& stop : stops_) stop = repair_utf8(stop);
}

std::string TextStream::push(std::string_view bytes) {
  if (is_stopped_) return {};
  unfinished_ += bytes;
  const auto n_open = static_cast<size_t>(n_unfinished_utf8(unfinished_));
  const std::string_view whole = std::string_view(unfinished_).substr(0, unfinished_.size() - n_open);
  held_ += repair_utf8(whole);
  unfinished_.erase(0, whole.size());
  return release();
}

std::string TextStream::flush() {
  if (is_stopped_) return {};
  held_ += repair_utf8(unfinished_);
  unfinished_.clear();
  std::string out = release();
  if (!is_stopped_) out += std::exchange(held_, {});
  return out;
}

std::string TextStream::release() {
  if (const Found found = first_stop(held_, stops_); found.stop != nullptr) {
    is_stopped_ = true;
    stop_ = *found.stop;
    std::string out = held_.substr(0, found.at);
    held_.clear();
    unfinished_.clear();
    return out;
  }
  const size_t n_certain = held_from(held_, stops_);
  std::string out = held_.substr(0, n_certain);
  held_.erase(0, n_certain);
  return out;
}

}  // namespace millrace
