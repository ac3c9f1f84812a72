// Loops of nothing but multiply-adds, for one instruction set each. Files compiled for an instruction set
// must include no header with inline functions: the linker could keep their copy for every machine.
#pragma once

namespace millrace::peak {

// Operations (a multiplication and an addition each) of one round.
struct Loop {
  double (*run)(int n_rounds);  // the result keeps the compiler from dropping the work
  double flops_per_round;
};

struct Loops {
  Loop f32;
  Loop int8;
};

Loops plain();
#if defined(__x86_64__)
Loops avx2();
Loops avx512();
#endif

}  // namespace millrace::peak
