// Who is admitted next. A higher priority goes first; within one priority the keys take turns by deficit
// round robin (Shreedhar & Varghese 1995), in its form that is paid afterwards: a key's turn lasts as long as
// its balance is positive, what is computed for it is taken from the balance, and when nobody's is positive
// all who wait are given the same. So a key that asks for much waits for itself, not for others; who is alone
// never waits. Within a key the order is that of arrival.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include "engine/sequence.h"

namespace millrace {

class WaitingQueue {
 public:
  // `sequence` arrives (it is counted as its key's until leave()), or comes back and is then the first of its
  // key.
  void push_back(Sequence& sequence);
  void push_front(Sequence& sequence);
  // Arrives without waiting.
  void arrive(Sequence& sequence);
  // Whose turn it is; nullptr where nobody waits.
  Sequence* front();
  // Takes out what front() gave.
  void pop_front();
  // Takes out whoever waits; false when it does not.
  bool erase(Sequence& sequence);
  // Its key pays for the tokens up to `n_tokens` that it has not paid for.
  void charge(Sequence& sequence, int64_t n_tokens);
  // It is done: a key of which nothing is left is forgotten, with its balance.
  void leave(const Sequence& sequence);

  int64_t size() const { return size_; }
  int64_t balance_of(const std::string& key) const;
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (const auto& [priority, lines] : levels_) {
      for (const Line& line : lines) {
        for (Sequence* sequence : line.waiting) visit(*sequence);
      }
    }
  }

 private:
  struct Account {
    int64_t balance = 0;  // rows
    int64_t n_live = 0;   // sequences, waiting or running
  };
  // Those of one key and one priority.
  struct Line {
    std::string key;
    Account* account;
    std::deque<Sequence*> waiting;
  };

  Line& line_of(const Sequence& sequence);

  std::map<std::string, Account> accounts_;
  std::map<int, std::deque<Line>, std::greater<>> levels_;  // by priority; whose turn it is stands first
  int64_t size_ = 0;
};

}  // namespace millrace
