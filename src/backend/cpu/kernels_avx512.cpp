// The kernels for this instruction set. Nothing but the texts: see kernels.h for what must not be used here.
#if defined(__x86_64__)

#include "backend/cpu/kernels.h"
#include "backend/cpu/lanes_avx512.h"
#include "quant/format.h"

namespace millrace::cpu {
namespace {
#include "backend/cpu/text/kernels.inl"
}  // namespace

const Kernels& avx512_kernels() {
  static const Kernels kernels = make_kernels("avx512");
  return kernels;
}

}  // namespace millrace::cpu

#endif
