// The sampling options of a verb, over what the model's file recommends, over our defaults.
#pragma once

#include <optional>

#include "base/args.h"
#include "checkpoint/checkpoint.h"
#include "engine/request.h"

namespace millrace {

struct SamplingOptions {
  void declare(Args& args);
  // general.sampling.* of the file where an option was not given; else temperature 0.7 and top-p 0.95.
  // Without --seed a random one is drawn.
  Sampling sampling(const Metadata& metadata) const;

  std::optional<float> temperature, top_p, min_p;
  std::optional<int32_t> top_k;
  std::optional<uint64_t> seed;
  Sampling rest;  // options that no file recommends
};

}  // namespace millrace
