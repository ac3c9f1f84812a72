#include "model/hparams.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

Metadata metadata_with(std::string key, MetaValue value) {
  Metadata metadata;
  metadata.add("general.architecture", std::string_view("llama"));
  metadata.add(std::move(key), std::move(value));
  return metadata;
}

TEST(Hparams, RangesHold) {
  for (const int64_t bad : {int64_t{0}, int64_t{-1}, INT64_MAX}) {
    const Metadata metadata = metadata_with("llama.block_count", bad);
    EXPECT_THROW(Hparams(metadata).count("block_count"), Error) << bad;
  }
  for (const double bad :
       {0.0, -1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    const Metadata metadata = metadata_with("llama.rope.freq_base", bad);
    EXPECT_THROW(Hparams(metadata).real("rope.freq_base"), Error) << bad;
    EXPECT_THROW(Hparams(metadata).real_or("rope.freq_base", 1.0), Error) << bad;
  }
}

TEST(Hparams, PatternsAreFlagsOrAPeriod) {
  const Metadata period = metadata_with("llama.p", int64_t{3});
  EXPECT_EQ(Hparams(period).pattern_or("p", 4, 0), (std::vector<bool>{true, true, false, true}));
  const Metadata flags = metadata_with("llama.p", std::vector<bool>{false, true});
  EXPECT_EQ(Hparams(flags).pattern_or("p", 2, 0), (std::vector<bool>{false, true}));
  EXPECT_THROW(Hparams(flags).pattern_or("p", 3, 0), Error);
  const Metadata none = metadata_with("llama.other", true);
  EXPECT_EQ(Hparams(none).pattern_or("p", 2, 0), (std::vector<bool>{true, true}));
  EXPECT_EQ(Hparams(none).pattern_or("p", 2, 1), (std::vector<bool>{false, false}));
}

TEST(Hparams, WhatNobodyReadsIsRefused) {
  const Metadata metadata = metadata_with("llama.attention.clamp_kqv", 8.0);
  Hparams hparams(metadata);
  EXPECT_THROW(hparams.refuse_rest(), Error);
  hparams.real("attention.clamp_kqv");
  EXPECT_NO_THROW(hparams.refuse_rest());
  EXPECT_NO_THROW(Hparams(metadata_with("llama.attention.clamp_kqv", 0.0)).refuse_rest());
  EXPECT_NO_THROW(Hparams(metadata_with("general.name", true)).refuse_rest());
  EXPECT_THROW(Hparams(metadata_with("millrace.new", true)).refuse_rest(), Error);
}

}  // namespace
}  // namespace millrace
