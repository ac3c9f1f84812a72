#include "engine/candidates.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

namespace millrace {
namespace {

bool is_likelier(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// exp(x) for x <= 0 to about one ulp; 0 below -87, where float would be denormal. Cephes' reduction and
// polynomial (Moshier 1989), in plain operations that compilers vectorise and that give the same bits on
// every machine.
[[gnu::always_inline]] inline float exp_of(float x) {
  constexpr int32_t kLeast = 0x42ae0000;  // 87.0f
  constexpr float kRound =
      12582912.0f;  // 1.5 * 2^23: a sum with it is rounded to an integer, in its low bits
  // Masks of integers: g++ makes no vector code of a choice between floats, which might trap.
  const int32_t magnitude = std::bit_cast<int32_t>(x) & 0x7fffffff;
  const int32_t is_zero = (kLeast - magnitude) >> 31;  // all bits, or none
  const float y = -std::bit_cast<float>((magnitude & ~is_zero) | (kLeast & is_zero));
  const float rounded = y * 1.44269504f + kRound;
  const float n = rounded - kRound;
  const float r = (y - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float fraction = p * (r * r) + r + 1.0f;
  const auto power = std::bit_cast<float>((std::bit_cast<uint32_t>(rounded) + 127) << 23);
  return std::bit_cast<float>(std::bit_cast<int32_t>(fraction * power) & ~is_zero);
}

// out[i] = exp((logits[i] - max) / temperature)
void weigh(std::span<const float> logits, float max, float temperature, float* __restrict out) {
  const float* in = logits.data();
  const size_t n = logits.size();
  for (size_t i = 0; i < n; ++i) out[i] = exp_of((in[i] - max) / temperature);
}

double sum_of(std::span<const float> weights) {
  std::array<double, 8> lanes{};
  size_t i = 0;
  for (; i + lanes.size() <= weights.size(); i += lanes.size()) {
    for (size_t lane = 0; lane < lanes.size(); ++lane) lanes[lane] += weights[i + lane];
  }
  double sum = 0.0;
  for (const double lane : lanes) sum += lane;
  for (; i < weights.size(); ++i) sum += weights[i];
  return sum;
}

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

double sum_of_exp(std::span<const float> logits, float max) {
  std::vector<float> weights(logits.size());
  weigh(logits, max, 1.0f, weights.data());
  return sum_of(weights);
}

Candidates::Candidates(std::span<const float> logits, float max, const Sampling& sampling)
    : max_(max), temperature_(sampling.temperature) {
  const auto k = static_cast<size_t>(sampling.top_k);
  if (k > 0 && k < logits.size()) {
    take_likeliest(logits, k);
  } else {
    take_all(logits, sampling);
  }
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
  for (Candidate& c : list_) {
    c.logit = (c.logit - max_) / temperature_;
    c.weight = exp_of(c.logit);
  }
  keep_if([](const Candidate& c) { return c.weight > 0.0f; });
}

void Candidates::take_all(std::span<const float> logits, const Sampling& sampling) {
  std::vector<float> weights(logits.size());
  weigh(logits, max_, temperature_, weights.data());
  sum_ = sum_of(weights);
  list_.reserve(sampling.top_p < 1.0f || sampling.min_p > 0.0f ? 0 : logits.size());
  // All tokens with a probability below (1 - p) / n have less than 1 - p together: top_p does not reach them.
  const double by_top_p = (1.0 - sampling.top_p) / static_cast<double>(logits.size()) * sum_;
  const auto least = static_cast<float>(std::max<double>(sampling.min_p, by_top_p) * 0.999);  // rounding
  for (size_t i = 0; i < logits.size(); ++i) {
    if (weights[i] < least || weights[i] <= 0.0f) continue;
    list_.push_back({static_cast<int32_t>(i), (logits[i] - max_) / temperature_, weights[i]});
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
  const double target = u * sum_;
  double sum = 0.0;
  for (const Candidate& c : list_) {
    sum += c.weight;
    if (target < sum) return c;
  }
  return list_.back();  // the weights were added up in another order to a little more
}

}  // namespace millrace
