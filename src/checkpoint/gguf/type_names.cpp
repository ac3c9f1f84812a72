#include "checkpoint/gguf/type_names.h"

#include <iterator>

namespace millrace::gguf {
namespace {

// By id, with those of the format table too, so that a position is an id.
constexpr std::string_view kNames[] = {
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2, long removed",
    "Q4_3, long removed",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4, long removed",
    "Q4_0_4_8, long removed",
    "Q4_0_8_8, long removed",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4, long removed",
    "IQ4_NL_4_8, long removed",
    "IQ4_NL_8_8, long removed",
    "MXFP4",
    "NVFP4",
    "Q1_0",
    "Q2_0",
};
static_assert(std::size(kNames) == 43);

// The types of the ik_llama.cpp fork begin here.
constexpr uint32_t kFirstForkType = 97;
constexpr uint32_t kLastForkType = 400;

}  // namespace

std::string_view type_name(uint32_t ggml_type) {
  if (ggml_type < std::size(kNames)) return kNames[ggml_type];
  if (ggml_type >= kFirstForkType && ggml_type <= kLastForkType) return "a type of the ik_llama.cpp fork";
  return {};
}

}  // namespace millrace::gguf
