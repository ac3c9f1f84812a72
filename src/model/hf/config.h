// A reader over config.json that remembers what was asked for, as Hparams does over metadata.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/hparams.h"

namespace millrace {

// Looks a key up in several objects, the first that has it wins: text_config, the whole config, the defaults
// of the class. A null counts as "none", and is not looked for further.
class HfConfig {
 public:
  // `where` stands for the object in messages. The objects must outlive the reader.
  HfConfig(std::string where, std::vector<const Json*> objects)
      : where_(std::move(where)), objects_(std::move(objects)) {}

  // The value, or nullptr where there is none.
  const Json* find(std::string_view key);
  bool has(std::string_view key) const;

  // Each throws Error(bad_model) naming the key for another type or a value outside the range.
  int64_t count(std::string_view key, Range range = kCount);
  int64_t count_or(std::string_view key, int64_t otherwise, Range range = kCount);
  double real(std::string_view key, Range range = kPositive);
  double real_or(std::string_view key, double otherwise, Range range = kPositive);
  bool flag_or(std::string_view key, bool otherwise);
  std::string text_or(std::string_view key, std::string_view otherwise);
  std::vector<std::string> texts(std::string_view key);
  std::vector<double> reals(std::string_view key);
  // Throws unless the value is `expected` (or missing).
  void expect(std::string_view key, std::string_view expected);

  // A reader that looks into `object` first, and then where this one looks.
  HfConfig within(const Json& object, std::string where) const;

  // Throws for the first key of the first object that nobody asked for, unless it is known to change no
  // number or is off (null, false, empty).
  void refuse_rest() const;
  [[noreturn]] void refuse(std::string_view key, std::string_view why) const;

 private:
  const Json& need(std::string_view key);

  std::string where_;
  std::vector<const Json*> objects_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace millrace
