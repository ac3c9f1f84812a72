#include "engine/waiting_queue.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace millrace {
namespace {

// Rows that a key is given at once: about a short prompt, so that turns are short.
constexpr int64_t kQuantum = 512;

}  // namespace

WaitingQueue::Line& WaitingQueue::line_of(const Sequence& sequence) {
  std::deque<Line>& lines = levels_[sequence.priority];
  const auto line = std::ranges::find(lines, sequence.key, &Line::key);
  if (line != lines.end()) return *line;
  return lines.emplace_back(Line{sequence.key, &accounts_[sequence.key], {}});
}

void WaitingQueue::arrive(Sequence& sequence) { ++accounts_[sequence.key].n_live; }

void WaitingQueue::push_back(Sequence& sequence) {
  arrive(sequence);
  line_of(sequence).waiting.push_back(&sequence);
  ++size_;
}

void WaitingQueue::push_front(Sequence& sequence) {
  line_of(sequence).waiting.push_front(&sequence);
  ++size_;
}

Sequence* WaitingQueue::front() {
  if (levels_.empty()) return nullptr;
  std::deque<Line>& lines = levels_.begin()->second;
  int64_t n_rounds = std::numeric_limits<int64_t>::max();  // until somebody's balance is positive
  for (const Line& line : lines)
    n_rounds = std::min(n_rounds, std::max<int64_t>(0, (kQuantum - line.account->balance) / kQuantum));
  for (const Line& line : lines) line.account->balance += n_rounds * kQuantum;
  const auto first = std::ranges::find_if(lines, [](const Line& line) { return line.account->balance > 0; });
  std::rotate(lines.begin(), first, lines.end());
  return lines.front().waiting.front();
}

void WaitingQueue::pop_front() {
  std::deque<Line>& lines = levels_.begin()->second;
  lines.front().waiting.pop_front();
  --size_;
  if (lines.front().waiting.empty()) lines.pop_front();
  if (lines.empty()) levels_.erase(levels_.begin());
}

bool WaitingQueue::erase(Sequence& sequence) {
  const auto level = levels_.find(sequence.priority);
  if (level == levels_.end()) return false;
  const auto line = std::ranges::find(level->second, sequence.key, &Line::key);
  if (line == level->second.end() || std::erase(line->waiting, &sequence) == 0) return false;
  --size_;
  if (line->waiting.empty()) level->second.erase(line);
  if (level->second.empty()) levels_.erase(level);
  return true;
}

void WaitingQueue::charge(Sequence& sequence, int64_t n_tokens) {
  if (n_tokens <= sequence.n_charged) return;
  accounts_.at(sequence.key).balance -= n_tokens - sequence.n_charged;
  sequence.n_charged = n_tokens;
}

void WaitingQueue::leave(const Sequence& sequence) {
  const auto account = accounts_.find(sequence.key);
  check(account != accounts_.end() && account->second.n_live > 0, "who leaves has arrived");
  if (--account->second.n_live == 0) accounts_.erase(account);
}

int64_t WaitingQueue::balance_of(const std::string& key) const {
  const auto account = accounts_.find(key);
  return account == accounts_.end() ? 0 : account->second.balance;
}

}  // namespace millrace
