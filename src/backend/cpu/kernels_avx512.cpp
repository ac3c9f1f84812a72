// The kernel text, compiled for AVX-512 with VNNI.
#if defined(__AVX512VNNI__)

#include "backend/cpu/kernels.h"
#include "backend/cpu/lanes_avx512.h"

namespace millrace::cpu {
namespace {

#include "backend/cpu/text/kernels.inl"

}  // namespace

const Kernels& avx512_kernels() {
  static constexpr Kernels kTable = make_table("avx512");
  return kTable;
}

}  // namespace millrace::cpu

#endif
