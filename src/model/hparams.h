// Hyperparameters of a model, read from metadata with need, optional and refuse. The reader remembers which
// keys were asked for: what a file demands beyond them is refused by refuse_rest(), never ignored.
#pragma once

#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace millrace {

// What a value may be, ends included. NaN is in no range.
struct Range {
  double min = 0.0;
  double max = std::numeric_limits<double>::max();
};
// Of layers, heads, widths: what no real model exceeds by far, and no sum of ours overflows with.
inline constexpr Range kCount{1, 1 << 24};
inline constexpr Range kCountOrNone{0, 1 << 24};
inline constexpr Range kPositions{1, std::numeric_limits<int32_t>::max()};
// Of rotary bases and of what divides frequencies: angles stay finite.
inline constexpr Range kRopeBase{1.0, 1e15};
inline constexpr Range kRopeFactor{1e-6, 1e6};
inline constexpr Range kPositive{std::numeric_limits<float>::min(), std::numeric_limits<float>::max()};

// Which of each `period` flags is the odd one out.
enum class Odd { first, last };
// n flags, true but for one of each `period`; all true when `period` is 0.
std::vector<bool> periodic_pattern(int64_t n, int64_t period, Odd odd = Odd::last);

// Keys are those of GGUF without the "{arch}." in front; keys of our own begin with "millrace." and stand
// as they are. Every member throws Error(bad_model) naming the key for a value outside its range.
class Hparams {
 public:
  // `metadata` must outlive the reader.
  explicit Hparams(const Metadata& metadata);

  const std::string& arch() const { return arch_; }  // general.architecture
  bool has(std::string_view key) const;

  int64_t count(std::string_view key, Range range = kCount);
  int64_t count_or(std::string_view key, int64_t otherwise, Range range = kCountOrNone);
  // An array of them, or one alone.
  std::vector<int64_t> counts(std::string_view key, Range range = kCount);
  double real(std::string_view key, Range range = kPositive);
  double real_or(std::string_view key, double otherwise, Range range = kPositive);
  bool flag_or(std::string_view key, bool otherwise);
  std::string text_or(std::string_view key, std::string_view otherwise);
  // An array of flags for each layer, or a period: true but for one layer of each (0: true for all).
  std::vector<bool> pattern_or(std::string_view key, int64_t n_layers, int64_t period, Odd odd = Odd::last);

  // An array for each layer (entries beyond them, of draft layers, do not count), or one number for all.
  std::vector<int64_t> counts(std::string_view key, int64_t n_layers, Range range);
  std::vector<double> reals(std::string_view key, int64_t n_layers, Range range);

  // Throws for the first key of this architecture that nobody asked for, unless it is known to change no
  // number, or holds the value that stands for "off".
  void refuse_rest() const;
  // Throws Error(bad_model): the key in full, and why its value is refused.
  [[noreturn]] void refuse(std::string_view key, std::string_view why) const;

 private:
  template <class T>
  std::vector<T> numbers(std::string_view key, int64_t n_layers, Range range);
  std::string asked(std::string_view key);
  std::string full(std::string_view key) const;

  const Metadata& metadata_;
  std::string arch_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace millrace
