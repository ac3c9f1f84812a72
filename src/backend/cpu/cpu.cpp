#include "backend/cpu/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <vector>

#include "backend/cpu/compute.h"
#include "backend/op_shapes.h"

namespace millrace {
namespace {

struct InstructionSet {
  std::string_view name;
  const cpu::Kernels& (*kernels)();
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(const InstructionSet& set, int n_threads)
      : instruction_set_(set.name),
        pool_(n_threads),
        scratch_(n_threads),
        machine_{set.kernels(), pool_, scratch_, copies_} {}

  std::string_view name() const override { return "cpu"; }
  std::string machine() const override { return std::string(instruction_set_); }
  void run(const Op& op) override {
    check_shapes(op);
    std::visit([this](const auto& each) { cpu::compute(machine_, each); }, op);
  }
  int64_t copy_weights(std::span<const Tensor> weights, const std::stop_token& stop,
                       const Release& release) override {
    return copies_.make(machine_.kernels, weights, stop, release);
  }

 private:
  std::string_view instruction_set_;
  ThreadPool pool_;
  cpu::Scratch scratch_;
  cpu::WeightCopies copies_;
  cpu::Machine machine_;
};

static_assert(cpu::kMatmulBf16 == static_cast<size_t>(Dtype::bf16));
static_assert(cpu::kMatmulQ4_0 == static_cast<size_t>(Dtype::q4_0));
static_assert(cpu::kMatmulQ8_0 == static_cast<size_t>(Dtype::q8_0));
static_assert(cpu::kMatmulQ2K == static_cast<size_t>(Dtype::q2_k));
static_assert(cpu::kMatmulQ6K == static_cast<size_t>(Dtype::q6_k));
static_assert(cpu::kMatmulMxfp4 == static_cast<size_t>(Dtype::mxfp4));
static_assert(cpu::kMatmulQ8Z == static_cast<size_t>(Dtype::q8_z));

#if defined(__x86_64__)
// clang 14 has no name for this feature: CPUID.1:ECX.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & (1u << 29)) != 0;
}

// Whether the processor has tiles for int8 and bfloat16 and the kernel lets this process use them: they are
// more state than a thread has by itself, so Linux wants to be asked (Documentation/arch/x86/xstate.rst).
bool has_amx() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if (constexpr unsigned kAll = kBf16 | kTile | kInt8; (edx & kAll) != kAll) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> sets;
#if defined(__x86_64__)
  // Every flag that *_avx2.cpp and *_avx512.cpp are compiled with (cmake/floors.cmake): the compiler may use
  // any of them.
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && has_f16c();
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
                          __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
  if (has_avx2 && has_avx512 && has_amx()) sets.push_back({"amx", cpu::amx_kernels});
  if (has_avx2 && has_avx512) sets.push_back({"avx512", cpu::avx512_kernels});
  if (has_avx2) sets.push_back({"avx2", cpu::avx2_kernels});
#endif
  sets.push_back({"scalar", cpu::scalar_kernels});
  return sets;
}

}  // namespace

std::span<const std::string_view> cpu_instruction_sets() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> out;
    for (const InstructionSet& set : instruction_sets()) out.push_back(set.name);
    return out;
  }();
  return names;
}

std::unique_ptr<Backend> make_cpu_backend(int n_threads, std::string_view instruction_set) {
  if (n_threads < 1) fail(ErrorKind::usage, "{} threads, expected at least 1", n_threads);
  const std::vector<InstructionSet> sets = instruction_sets();
  const auto set = std::ranges::find(sets, instruction_set, &InstructionSet::name);
  if (set == sets.end()) fail(ErrorKind::usage, "this machine has no {}", printable(instruction_set));
  return std::make_unique<CpuBackend>(*set, n_threads);
}

std::unique_ptr<Backend> make_cpu_backend(int n_threads) {
  return make_cpu_backend(n_threads, cpu_instruction_sets().front());
}

}  // namespace millrace
