// The kernels for this instruction set. Nothing but the texts: see kernels.h for what must not be used here.
#include "backend/cpu/kernels.h"
#include "backend/cpu/lanes_scalar.h"
#include "quant/format.h"

namespace millrace::cpu {
namespace {
#include "backend/cpu/text/kernels.inl"
}  // namespace

const Kernels& scalar_kernels() {
  static const Kernels kernels = make_kernels("scalar");
  return kernels;
}

}  // namespace millrace::cpu
