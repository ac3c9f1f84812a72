#include "engine/candidates.h"

#include <algorithm>
#include <cmath>

namespace millrace {
namespace {

// Of the weights of all logits, and of each block.
struct Weights {
  Weights(std::span<const float> logits, float max, float temperature) : of_tokens(logits.size()) {
    weigh(logits.data(), std::ssize(logits), max, temperature, of_tokens.data());
    for (size_t begin = 0; begin < of_tokens.size(); begin += kWeightBlock) {
      const auto n = std::min<size_t>(kWeightBlock, of_tokens.size() - begin);
      sum += of_blocks.emplace_back(sum_of_block(of_tokens.data() + begin, static_cast<int64_t>(n)));
    }
  }

  std::vector<float> of_tokens;
  std::vector<double> of_blocks;
  double sum = 0.0;
};

// Puts the n first of `items` in front and sorts those in [begin, n); the ones before are there already.
template <class T, class Less>
void sort_front(std::vector<T>& items, size_t begin, size_t n, Less less) {
  const auto first = items.begin() + static_cast<ptrdiff_t>(begin);
  const auto end = items.begin() + static_cast<ptrdiff_t>(n);
  if (n < items.size()) std::nth_element(first, end, items.end(), less);
  std::sort(first, end, less);
}

// How many of the first items have a mass of `target` together. Sorts only as many as that takes: most often
// a few are enough.
template <class T, class Less, class Mass>
size_t n_for_mass(std::vector<T>& items, double target, Less less, Mass mass_of) {
  size_t n_sorted = 0;
  double mass = 0.0;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i == n_sorted) {
      const size_t n = std::min(items.size(), std::max<size_t>(64, 4 * n_sorted));
      sort_front(items, n_sorted, n, less);
      n_sorted = n;
    }
    mass += mass_of(items[i]);
    if (mass >= target) return i + 1;
  }
  return items.size();
}

}  // namespace

double sum_of_exp(std::span<const float> logits, float max) { return Weights(logits, max, 1.0f).sum; }

int32_t draw_from_all(std::span<const float> logits, float max, float temperature, double u) {
  const Weights weights(logits, max, temperature);
  const double target = u * weights.sum;
  const DrawEnd block = draw_end(weights.of_blocks.data(), std::ssize(weights.of_blocks), 0.0, target);
  const int64_t begin = block.item * kWeightBlock;
  const int64_t n = std::min<int64_t>(kWeightBlock, std::ssize(logits) - begin);
  const DrawEnd token = draw_end(weights.of_tokens.data() + begin, n, block.before, target);
  return static_cast<int32_t>(begin + token.item);
}

Candidates::Candidates(std::span<const float> logits, float max, const Sampling& sampling)
    : max_(max), temperature_(sampling.temperature) {
  const auto k = static_cast<size_t>(sampling.top_k);
  if (k > 0 && k < logits.size()) {
    take_likeliest(logits, k);
  } else {
    take_all(logits, sampling);
  }
  keep_top_p(sampling.top_p);
  keep_min_p(sampling.min_p);
}

std::optional<Candidates> Candidates::of(const Shortlist& shortlist, int64_t n_vocab,
                                         const Sampling& sampling) {
  Candidates out(shortlist.logits.front(), sampling.temperature);
  out.list_.resize(shortlist.tokens.size());
  const Kept kept = truncated({.tokens = shortlist.tokens.data(),
                               .logits = shortlist.logits.data(),
                               .n = std::ssize(shortlist.tokens),
                               .n_vocab = n_vocab,
                               .temperature = sampling.temperature,
                               .sum = shortlist.sum},
                              truncation_of(sampling, n_vocab), out.list_.data());
  if (kept.n == 0) return std::nullopt;
  out.list_.resize(static_cast<size_t>(kept.n));
  out.sum_ = kept.sum;
  return out;
}

// The list has raw logits.
void Candidates::weigh_list() {
  for (Candidate& c : list_) {
    c.logit = (c.logit - max_) / temperature_;
    c.weight = weight_of(c.logit);
  }
  keep_if([](const Candidate& c) { return c.weight > 0.0f; });
}

// One pass that skips what is no better than the k-th best so far; a full buffer is cut back to k.
void Candidates::take_likeliest(std::span<const float> logits, size_t k) {
  const size_t room = std::min(2 * k + 1024, logits.size());
  list_.reserve(room);
  float too_low = -INFINITY;
  const auto cut = [&] {
    if (list_.size() <= k) return;
    std::nth_element(list_.begin(), list_.begin() + static_cast<ptrdiff_t>(k - 1), list_.end(), is_likelier);
    list_.resize(k);
    too_low = list_[k - 1].logit;
  };
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] <= too_low) continue;
    list_.push_back({static_cast<int32_t>(i), logits[i], 0.0f});
    if (list_.size() == room) cut();
  }
  cut();
  std::ranges::sort(list_, is_likelier);
  weigh_list();
}

void Candidates::take_all(std::span<const float> logits, const Sampling& sampling) {
  const Weights weights(logits, max_, temperature_);
  sum_ = weights.sum;
  list_.reserve(sampling.top_p < 1.0f || sampling.min_p > 0.0f ? 0 : logits.size());
  const float least = truncation_of(sampling, std::ssize(logits)).least_weight(sum_, std::ssize(logits));
  for (size_t i = 0; i < logits.size(); ++i) {
    const float weight = weights.of_tokens[i];
    if (weight < least || weight <= 0.0f) continue;
    list_.push_back({static_cast<int32_t>(i), (logits[i] - max_) / temperature_, weight});
  }
}

void Candidates::add_up() {
  sum_ = 0.0;
  for (const Candidate& c : list_) sum_ += c.weight;
}

template <class Predicate>
void Candidates::keep_if(Predicate is_kept) {
  if (std::ranges::none_of(list_, is_kept)) {
    list_ = {*std::ranges::min_element(list_, is_likelier)};
  } else {
    std::erase_if(list_, [&](const Candidate& c) { return !is_kept(c); });
  }
  add_up();
}

void Candidates::keep_top_p(float p) {
  if (p >= 1.0f) return;
  list_.resize(n_for_mass(list_, p * sum_, is_likelier, [](const Candidate& c) { return c.weight; }));
  add_up();
}

void Candidates::keep_min_p(float share) {
  if (share <= 0.0f) return;
  const float highest = std::ranges::min_element(list_, is_likelier)->weight;
  keep_if([&](const Candidate& c) { return c.weight >= share * highest; });
}

void Candidates::keep_typical(float p) {
  if (p >= 1.0f) return;
  const double log_sum = std::log(sum_);
  double entropy = 0.0;
  for (const Candidate& c : list_) entropy += c.weight / sum_ * (log_sum - c.logit);
  struct Ranked {
    double strangeness;  // how far the surprise is from the entropy
    size_t i;
  };
  std::vector<Ranked> ranked(list_.size());
  for (size_t i = 0; i < list_.size(); ++i) ranked[i] = {std::fabs(log_sum - list_[i].logit - entropy), i};
  const auto is_less_strange = [&](const Ranked& a, const Ranked& b) {
    return a.strangeness < b.strangeness ||
           (a.strangeness == b.strangeness && is_likelier(list_[a.i], list_[b.i]));
  };
  ranked.resize(
      n_for_mass(ranked, p * sum_, is_less_strange, [&](const Ranked& r) { return list_[r.i].weight; }));
  std::ranges::sort(ranked, {}, &Ranked::i);
  std::vector<Candidate> kept(ranked.size());
  std::ranges::transform(ranked, kept.begin(), [&](const Ranked& r) { return list_[r.i]; });
  list_ = std::move(kept);
  add_up();
}

void Candidates::keep_logit_from(double least) {
  keep_if([&](const Candidate& c) { return c.logit >= least; });
}

void Candidates::exclude_top(float threshold) {
  const Candidate* least = nullptr;
  size_t n_above = 0;
  const auto is_above = [&](const Candidate& c) { return c.weight >= threshold * sum_; };
  for (const Candidate& c : list_) {
    if (!is_above(c)) continue;
    ++n_above;
    if (least == nullptr || is_likelier(*least, c)) least = &c;
  }
  if (n_above < 2) return;
  const int32_t kept = least->token;
  keep_if([&](const Candidate& c) { return c.token == kept || !is_above(c); });
}

void Candidates::keep_surprise_up_to(float bits) {
  keep_if([&, least = std::exp2(-bits) * sum_](const Candidate& c) { return c.weight >= least; });
}

std::span<const Candidate> Candidates::sort_likeliest(size_t n) {
  n = std::min(n, list_.size());
  sort_front(list_, 0, n, is_likelier);
  return list().first(n);
}

std::span<const Candidate> Candidates::keep_likeliest(size_t n) {
  list_.resize(sort_likeliest(std::max<size_t>(n, 1)).size());
  add_up();
  return list_;
}

const Candidate& Candidates::draw(double u) const {
  return list_[static_cast<size_t>(drawn_of(list_.data(), {std::ssize(list_), sum_}, u))];
}

}  // namespace millrace
