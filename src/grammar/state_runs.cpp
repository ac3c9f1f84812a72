#include "grammar/state_runs.h"

#include <algorithm>
#include <array>

#include "grammar/signs.h"

namespace millrace {
namespace {

uint64_t signs_of(int byte) { return byte < 0x80 ? kSigns[static_cast<size_t>(byte)] : kBeyondAscii; }

// Of valid UTF-8: first bytes, second bytes, how many further ones.
struct Lead {
  uint8_t first, last, low, high;
  int n_more;
};
constexpr Lead kLeads[] = {{0xc2, 0xdf, 0x80, 0xbf, 0}, {0xe0, 0xe0, 0xa0, 0xbf, 1},
                           {0xe1, 0xec, 0x80, 0xbf, 1}, {0xed, 0xed, 0x80, 0x9f, 1},
                           {0xee, 0xef, 0x80, 0xbf, 1}, {0xf0, 0xf0, 0x90, 0xbf, 2},
                           {0xf1, 0xf3, 0x80, 0xbf, 2}, {0xf4, 0xf4, 0x80, 0x8f, 2}};

}  // namespace

const SignRun& StateRuns::find(uint32_t state) {
  // Along the chain of states that single characters lead through, then from its end back. One that is longer
  // than tokens are is cut; what is known then is too short only where it does not matter.
  constexpr size_t kMaxChain = 2 * kMaxTokenBytes;
  std::vector<std::pair<uint32_t, Link>> chain;
  uint32_t at = state;
  while (at != kNowhere && !runs_[at].is_known && chain.size() < kMaxChain) {
    const Link link = link_from(at);
    chain.emplace_back(at, link);
    if (link.to == at) break;
    at = link.to;
  }
  const bool is_cut = chain.size() == kMaxChain && at != kNowhere && !runs_[at].is_known;
  SignRun after = at == kNowhere || is_cut ? SignRun{} : runs_[at].run;
  for (size_t i = chain.size(); i-- > 0;) {
    after = joined(chain[i].first, chain[i].second, after);
    if (!is_cut || i == 0 || after.n_chars >= kMaxTokenBytes) runs_[chain[i].first] = {after, true};
  }
  return runs_[state].run;
}

SignRun StateRuns::joined(uint32_t state, const Link& link, const SignRun& after) const {
  if (link.signs == 0) return {};
  if (link.to == state)
    return {.signs = link.signs,
            .n_chars = UINT8_MAX,
            .is_whole = true,
            .exits = first_signs(state) & ~link.signs};
  const bool goes_on = after.n_chars > 0 && (link.signs & ~after.signs) == 0;
  const uint64_t next = first_signs(link.to);
  const int n_chars = goes_on ? std::min(after.n_chars + 1, int{UINT8_MAX}) : 1;
  const bool ends = goes_on ? after.is_whole : !is_accepting(link.to) && (next & link.signs) == 0;
  return {.signs = link.signs,
          .n_chars = static_cast<uint8_t>(n_chars),
          .is_whole = n_chars >= static_cast<int>(kMaxTokenBytes) || (ends && !is_accepting(state)),
          .exits = (first_signs(state) | next | (goes_on ? after.signs | after.exits : 0)) & ~link.signs};
}

StateRuns::Link StateRuns::link_from(uint32_t state) const {
  const std::vector<Way> ways = ways_from(state);
  Link link{.to = target_of_some(ways)};
  if (link.to == kNowhere) return link;
  uint64_t others = 0;
  std::array<bool, 128> leads_on{};
  bool has_all = false;
  for (const Way& way : ways) {
    for (const auto& edge : machine_.bytes_of(machine_.states()[way.from])) {
      const bool is_there = arrives(way, edge.to, link.to);
      for (size_t c = edge.first; c <= std::min<size_t>(edge.last, 127); ++c) {
        leads_on[c] |= is_there;
        if (!is_there) others |= kSigns[c];
      }
    }
    const Share beyond = beyond_ascii(way, link.to);
    has_all |= beyond == Share::all;
    if (beyond == Share::some) others |= kBeyondAscii;
  }
  for (size_t c = 0; c < leads_on.size(); ++c) (leads_on[c] ? link.signs : others) |= kSigns[c];
  if (has_all) link.signs |= kBeyondAscii;
  link.signs &= ~others;
  return link;
}

std::vector<StateRuns::Way> StateRuns::ways_from(uint32_t state) const {
  std::vector<Way> ways{{state, kNowhere}};
  for (const auto& call : machine_.calls_of(machine_.states()[state])) {
    const uint32_t start = machine_.rule(call.rule).start;
    if (!machine_.calls_of(machine_.states()[start]).empty()) return {};
    ways.push_back({start, call.to});
  }
  return ways;
}

bool StateRuns::arrives(const Way& way, uint32_t at, uint32_t to) const {
  if (way.behind == kNowhere) return at == to;
  return way.behind == to && machine_.states()[at].is_accepting && machine_.states()[at].is_end();
}

uint32_t StateRuns::target_of_some(const std::vector<Way>& ways) const {
  for (const char c : {'a', 'A', '0', ' '}) {
    for (const Way& way : ways) {
      for (const auto& edge : machine_.bytes_of(machine_.states()[way.from]))
        if (edge.first <= c && c <= edge.last) return way.behind == kNowhere ? edge.to : way.behind;
    }
  }
  return kNowhere;
}

StateRuns::Share StateRuns::beyond_ascii(const Way& way, uint32_t to) const {
  const auto edges = machine_.bytes_of(machine_.states()[way.from]);
  if (std::ranges::all_of(edges, [](const auto& edge) { return edge.last < 0x80; })) return Share::none;
  const bool has_all = std::ranges::all_of(kLeads, [&](const Lead& lead) {
    return leads_all(way.from, way, to, lead.first, lead.last, -1) &&
           std::ranges::all_of(edges, [&](const auto& edge) {
             return edge.last < lead.first || lead.last < edge.first ||
                    leads_all(edge.to, way, to, lead.low, lead.high, lead.n_more);
           });
  });
  return has_all ? Share::all : Share::some;
}

// All of these bytes, with any n_more of those that go on a character behind them; n_more -1: only these.
bool StateRuns::leads_all(uint32_t from, const Way& way, uint32_t to, uint8_t first, uint8_t last,
                          int n_more) const {
  int next = first;  // the first byte that no edge is known for yet
  for (const auto& edge : machine_.bytes_of(machine_.states()[from])) {
    if (edge.last < first || last < edge.first) continue;
    if (edge.first > next) return false;
    if (n_more == 0 && !arrives(way, edge.to, to)) return false;
    if (n_more > 0 && !leads_all(edge.to, way, to, 0x80, 0xbf, n_more - 1)) return false;
    next = std::max(next, edge.last + 1);
  }
  return next > last;
}

uint64_t StateRuns::first_signs(uint32_t state) const {
  const std::vector<Way> ways = ways_from(state);
  if (ways.empty()) return ~uint64_t{0};
  uint64_t signs = 0;
  for (const Way& way : ways) {
    for (const auto& edge : machine_.bytes_of(machine_.states()[way.from])) {
      for (int byte = edge.first; byte <= std::min<int>(edge.last, 0x7f); ++byte) signs |= signs_of(byte);
      if (edge.last >= 0x80) signs |= kBeyondAscii | kBrokenChars;
    }
  }
  return signs;
}

}  // namespace millrace
