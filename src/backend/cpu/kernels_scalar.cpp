// The kernel text, compiled for any machine.
#include "backend/cpu/kernels.h"
#include "backend/cpu/lanes_scalar.h"

namespace millrace::cpu {
namespace {

#include "backend/cpu/text/kernels.inl"

}  // namespace

const Kernels& scalar_kernels() {
  static constexpr Kernels kTable = make_table("scalar");
  return kTable;
}

}  // namespace millrace::cpu
