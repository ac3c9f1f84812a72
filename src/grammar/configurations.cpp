#include "grammar/configurations.h"

#include <algorithm>
#include <map>

#include "base/error.h"

namespace millrace {
namespace {

uint32_t hash_of(std::span<const uint64_t> list) {
  uint64_t hash = list.size();
  for (const uint64_t x : list) {
    hash = (hash ^ x) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 32;
  }
  return static_cast<uint32_t>(hash ^ hash >> 29);
}

void sort_unique(std::vector<uint64_t>& list) {
  if (list.size() < 2) return;
  std::ranges::sort(list);
  list.erase(std::unique(list.begin(), list.end()), list.end());
}

}  // namespace

uint32_t InternedLists::number_of(std::span<const uint64_t> list) {
  const uint32_t hash = hash_of(list);
  size_t at = hash & (table_.size() - 1);
  for (; table_[at] != 0; at = (at + 1) & (table_.size() - 1)) {
    const uint32_t number = table_[at] - 1;
    if (hashes_[number] == hash && std::ranges::equal((*this)[number], list)) return number;
  }
  const uint32_t number = size();
  elements_.insert(elements_.end(), list.begin(), list.end());
  begins_.push_back(static_cast<uint32_t>(elements_.size()));
  hashes_.push_back(hash);
  table_[at] = number + 1;
  if (size() * 2 > table_.size()) grow();
  return number;
}

void InternedLists::grow() {
  table_.assign(table_.size() * 4, 0);
  for (uint32_t number = 0; number < size(); ++number) {
    size_t at = hashes_[number] & (table_.size() - 1);
    while (table_[at] != 0) at = (at + 1) & (table_.size() - 1);
    table_[at] = number + 1;
  }
}

Configurations::Configurations(const GrammarMachine& machine)
    : machine_(machine), n_classes_(machine.n_classes()), state_runs_(machine) {
  frames_.number_of({});                                   // the bottom
  frames_.number_of(std::vector{packed(kEnd, kUnknown)});  // unknown: like no other
  behind_.assign(2, kNotKnown);
  std::vector<uint64_t> none;
  number_of(none);  // dead
}

Configurations::Number Configurations::start() {
  std::vector<uint64_t> kernel{packed(machine_.rule(machine_.root()).start, kBottom)};
  return number_of(kernel);
}

Configurations::Number Configurations::at_state(uint32_t state) {
  std::vector<uint64_t> kernel{packed(state, kUnknown)};
  return number_of(kernel);
}

Configurations::Number Configurations::behind_frame(uint32_t frame) {
  if (behind_[frame] != kNotKnown) return behind_[frame];
  std::vector<uint64_t> kernel;
  if (frame <= kUnknown) {
    kernel.push_back(packed(kEnd, frame));
  } else {
    for (const uint64_t target : frames_[frame]) {
      const Item item = unpacked(target);
      kernel.push_back(item.state == kEnd ? target : packed(machine_.states()[item.state].twin, item.frame));
    }
  }
  const Number number = number_of(kernel);
  return behind_[frame] = number;
}

const SignRun& Configurations::find_run(Number number) {
  SignRun best;
  for (uint32_t i = infos_[number].reached_begin; i < infos_[number].reached_end; ++i) {
    const Item item = unpacked(reached_[i]);
    if (item.state == kEnd) continue;
    const SignRun& run = state_runs_.of(item.state);
    if (run.n_chars > best.n_chars) best = run;
  }
  return (runs_[number] = {best, true}).run;
}

int Configurations::only_byte(Number number) const {
  int only = -1;
  for (uint32_t i = infos_[number].reached_begin; i < infos_[number].reached_end; ++i) {
    const Item item = unpacked(reached_[i]);
    if (item.state == kEnd) return -1;
    for (const auto& edge : machine_.bytes_of(machine_.states()[item.state])) {
      if (edge.first != edge.last || (only >= 0 && only != edge.first)) return -1;
      only = edge.first;
    }
  }
  return only;
}

bool Configurations::is_final(Number number) const {
  const auto kernel = kernels_[number];
  return std::ranges::all_of(kernel, [](uint64_t item) { return unpacked(item).state == kEnd; });
}

void Configurations::work(size_t n_edges) {
  if (n_edges > work_left_)
    fail(ErrorKind::usage, "the grammar allows too many ways to read a text to be followed in time");
  work_left_ -= n_edges;
}

Configurations::Number Configurations::compute_step(Number from, uint32_t byte_class) {
  const uint8_t byte = machine_.first_byte_of(byte_class);
  std::vector<uint64_t> kernel;
  for (uint32_t i = infos_[from].reached_begin; i < infos_[from].reached_end; ++i) {
    const Item item = unpacked(reached_[i]);
    if (item.state == kEnd) continue;
    const auto edges = machine_.bytes_of(machine_.states()[item.state]);
    work(edges.size() + 1);
    for (const auto& edge : edges)
      if (edge.first <= byte && byte <= edge.last) kernel.push_back(packed(edge.to, item.frame));
  }
  const Number to = number_of(kernel);
  steps_[size_t{from} * n_classes_ + byte_class] = to;
  return to;
}

Configurations::Number Configurations::number_of(std::vector<uint64_t>& kernel) {
  add_returns(kernel);
  const uint32_t n_before = kernels_.size();
  const Number number = kernels_.number_of(kernel);
  if (number < n_before) return number;
  Info info{.reached_begin = static_cast<uint32_t>(reached_.size())};
  for (const uint64_t item : kernel) {
    info.is_complete |= item == packed(kEnd, kBottom);
    info.leaves_rule |= item == packed(kEnd, kUnknown);
  }
  predict(kernel);
  reached_.insert(reached_.end(), kernel.begin(), kernel.end());
  info.reached_end = static_cast<uint32_t>(reached_.size());
  infos_.push_back(info);
  steps_.resize(steps_.size() + n_classes_, kNotKnown);
  runs_.emplace_back();
  return number;
}

void Configurations::add_returns(std::vector<uint64_t>& kernel) {
  sort_unique(kernel);
  const auto is_new = [&](uint64_t item) {
    work(kernel.size() / 8 + 1);
    return std::ranges::find(kernel, item) == kernel.end();
  };
  bool has_ends = false;
  const size_t n_given = kernel.size();
  for (size_t i = 0; i < kernel.size(); ++i) {
    const Item item = unpacked(kernel[i]);
    if (item.state == kEnd || !machine_.states()[item.state].is_accepting) continue;
    has_ends |= machine_.states()[item.state].is_end();
    if (item.frame <= kUnknown) {
      if (const uint64_t end = packed(kEnd, item.frame); is_new(end)) kernel.push_back(end);
      continue;
    }
    for (const uint64_t target : frames_[item.frame])
      if (is_new(target)) kernel.push_back(target);
  }
  if (has_ends) {
    std::erase_if(kernel, [&](uint64_t item) {
      return unpacked(item).state != kEnd && machine_.states()[unpacked(item).state].is_end();
    });
  }
  if (has_ends || kernel.size() != n_given) sort_unique(kernel);
}

// `items`: in, those of the kernel; out, those that are predicted too.
void Configurations::predict(std::vector<uint64_t>& items) {
  // Rules in the order of their ranks: when the frame of one is made, everybody who calls it here is known.
  std::map<std::pair<uint32_t, uint32_t>, std::vector<uint64_t>> callers;  // (rank, rule): where to return
  std::map<std::pair<uint32_t, uint32_t>, std::vector<uint64_t>> tails;  // (rank, rule): frames to take over
  const auto note_calls = [&](uint64_t packed_item) {
    const Item item = unpacked(packed_item);
    if (item.state == kEnd) return;
    const auto calls = machine_.calls_of(machine_.states()[item.state]);
    work(calls.size() + 1);
    for (const auto& call : calls) {
      const std::pair key(machine_.rule(call.rule).rank, call.rule);
      if (call.is_tail) {
        tails[key].push_back(item.frame);
      } else {
        callers[key].push_back(packed(call.to, item.frame));
      }
    }
  };
  for (const uint64_t item : items) note_calls(item);
  while (!callers.empty() || !tails.empty()) {
    auto key = callers.empty() ? tails.begin()->first : callers.begin()->first;
    if (!tails.empty()) key = std::min(key, tails.begin()->first);
    std::vector<uint64_t> frames = std::move(tails[key]);
    if (const auto at = callers.find(key); at != callers.end()) {
      sort_unique(at->second);
      const uint32_t frame = frames_.number_of(at->second);
      if (behind_.size() < frames_.size()) behind_.resize(frames_.size(), kNotKnown);
      frames.push_back(frame);
      callers.erase(at);
    }
    tails.erase(key);
    sort_unique(frames);
    for (const uint64_t frame : frames) {
      const uint64_t item = packed(machine_.rule(key.second).start, static_cast<uint32_t>(frame));
      items.push_back(item);
      note_calls(item);
    }
  }
}

uint32_t Configurations::copy_frame(const Configurations& other, uint32_t frame,
                                    std::vector<uint32_t>& known) {
  if (frame <= kUnknown || known[frame] != kNotKnown) return frame <= kUnknown ? frame : known[frame];
  std::vector<uint64_t> returns;  // to frames with lower numbers: they were made before
  for (const uint64_t target : other.frames_[frame]) {
    const Item item = unpacked(target);
    returns.push_back(packed(item.state, item.frame <= kUnknown ? item.frame : known[item.frame]));
  }
  sort_unique(returns);
  known[frame] = frames_.number_of(returns);
  if (behind_.size() < frames_.size()) behind_.resize(frames_.size(), kNotKnown);
  return known[frame];
}

Configurations::Number Configurations::copy_from(const Configurations& other, Number number) {
  std::vector<uint32_t> known(other.frames_.size(), kNotKnown);
  std::vector<bool> is_needed(other.frames_.size(), false);
  for (const uint64_t item : other.kernels_[number]) is_needed[unpacked(item).frame] = true;
  for (uint32_t frame = other.frames_.size(); frame-- > kUnknown + 1;) {
    if (!is_needed[frame]) continue;
    for (const uint64_t target : other.frames_[frame]) is_needed[unpacked(target).frame] = true;
  }
  for (uint32_t frame = kUnknown + 1; frame < other.frames_.size(); ++frame)
    if (is_needed[frame]) copy_frame(other, frame, known);
  std::vector<uint64_t> kernel;
  for (const uint64_t packed_item : other.kernels_[number]) {
    const Item item = unpacked(packed_item);
    kernel.push_back(packed(item.state, item.frame <= kUnknown ? item.frame : known[item.frame]));
  }
  return number_of(kernel);
}

}  // namespace millrace
