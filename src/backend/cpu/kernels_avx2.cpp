// The kernel text, compiled for AVX2, FMA and F16C.
#if defined(__AVX2__)

#include "backend/cpu/kernels.h"
#include "backend/cpu/lanes_avx2.h"

namespace millrace::cpu {
namespace {

#include "backend/cpu/text/kernels.inl"

}  // namespace

const Kernels& avx2_kernels() {
  static constexpr Kernels kTable = make_table("avx2");
  return kTable;
}

}  // namespace millrace::cpu

#endif
