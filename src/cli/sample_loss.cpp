#include "cli/sample_loss.h"

#include <algorithm>

#include "cli/progress.h"
#include "engine/scoring.h"

namespace millrace {
namespace {

constexpr size_t kWindow = 128;  // the logits of one are held

using LogProbs = std::vector<std::vector<float>>;  // of each position

LogProbs predict(Scorer& scorer, std::span<const int32_t> tokens, int64_t n_vocab) {
  LogProbs all;
  scorer.score(tokens, [&](int64_t, const Tensor& logits) {
    for (int64_t i = 0; i < logits.dim(0); ++i) {
      auto& row = all.emplace_back(static_cast<size_t>(n_vocab));
      log_softmax({reinterpret_cast<const float*>(logits.row(i)), row.size()}, row);
    }
  });
  return all;
}

}  // namespace

const std::string_view kSampleText =
    "The harbour was quiet when the last ferry came in. Two men in grey coats walked down the gangway, and "
    "behind "
    "them a woman with a suitcase that was much too heavy for her. \"Let me help you,\" said the older of "
    "the two. "
    "She shook her head. \"It is only books,\" she answered, \"and I have carried them further than "
    "this.\"\n\n"
    "A prime number has no divisors but 1 and itself: 2, 3, 5, 7, 11, 13, 17, 19, 23. There is no largest "
    "one, as "
    "Euclid showed about 300 BC. Water boils at 100 degrees Celsius at sea level, and at about 70 on the top "
    "of "
    "Mount Everest.\n\n"
    "def mean(values):\n    if not values:\n        raise ValueError(\"mean of nothing\")\n"
    "    return sum(values) / len(values)\n\n"
    "Question: Which planet of the solar system has the most moons?\nAnswer: Saturn, with more than a "
    "hundred.\n";

Divergence divergence_on(std::span<const int32_t> tokens, LoadedModel& before, LoadedModel& after,
                         const ComputeOptions& compute) {
  const int64_t n_vocab = before.model->shape().n_vocab;
  const auto window = static_cast<int64_t>(std::min(kWindow, tokens.size()));
  // One after the other: the second finds what the first has left of a GPU.
  place_weights(before, compute, Scorer::shape(*before.model, window, window, Dtype::f32));
  Scorer of_before(*before.model, *before.backend, window, window, Dtype::f32);
  place_weights(after, compute, Scorer::shape(*after.model, window, window, Dtype::f32));
  Scorer of_after(*after.model, *after.backend, window, window, Dtype::f32);
  DivergenceMeter meter;
  ProgressBar progress("comparing predictions", std::ssize(tokens));
  for (size_t begin = 0; begin + 1 < tokens.size(); begin += kWindow) {
    const auto part = tokens.subspan(begin, std::min(kWindow, tokens.size() - begin));
    const LogProbs base = predict(of_before, part, n_vocab), other = predict(of_after, part, n_vocab);
    for (size_t i = 0; i + 1 < part.size(); ++i) meter.add(base[i], other[i], part[i + 1]);
    progress.advance(static_cast<int64_t>(begin + part.size()));
  }
  return meter.result();
}

}  // namespace millrace
