// The kernels for this instruction set. Nothing but the texts: see kernels.h for what must not be used here.
#if defined(__x86_64__)

#include "backend/cpu/kernels.h"
#include "backend/cpu/lanes_avx2.h"
#include "quant/format.h"

namespace millrace::cpu {
namespace {
#include "backend/cpu/text/kernels.inl"
}  // namespace

const Kernels& avx2_kernels() {
  static const Kernels kernels = make_kernels("avx2");
  return kernels;
}

}  // namespace millrace::cpu

#endif
