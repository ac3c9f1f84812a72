// The sampling options of a verb, over what the model's publisher recommends, over our defaults.
#pragma once

#include <array>
#include <optional>

#include "base/args.h"
#include "checkpoint/checkpoint.h"
#include "engine/request.h"

namespace millrace {

class SamplingOptions {
 public:
  // What is drawn from where neither the options nor the file say it: as we like it (temperature 0.7, top-p
  // 0.95), or the model's own distribution, which clients of a server expect.
  enum class Otherwise { ours, unchanged };
  explicit SamplingOptions(Otherwise otherwise = Otherwise::ours) : otherwise_(otherwise) {}

  void declare(Args& args);
  // general.sampling.* of the metadata where an option was not given, else what Otherwise says.
  // Without --seed a random one is drawn.
  Sampling sampling(const Metadata& metadata) const;

 private:
  static constexpr size_t kNRecommended = 9;

  const Otherwise otherwise_;
  std::array<std::optional<float>, kNRecommended> given_;  // options that a publisher may recommend
  std::optional<int32_t> top_k_, mirostat_;
  std::optional<uint64_t> seed_;
  Sampling rest_;
};

}  // namespace millrace
