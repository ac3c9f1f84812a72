// doctor: what this machine is, and what it lacks.
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <dlfcn.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "backend/cpu/cpu.h"
#include "backend/cuda/cuda.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "cli/bandwidth.h"
#include "cli/verb.h"
#include "engine/memory.h"

namespace millrace {
namespace {

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown";
}

Json::Array cpu_features() {
  Json::Array out;
#if defined(__x86_64__)
#define MILLRACE_FEATURE(name) \
  if (__builtin_cpu_supports(name)) out.emplace_back(name);
  MILLRACE_FEATURE("avx2")
  MILLRACE_FEATURE("fma")
  MILLRACE_FEATURE("avx512f")
  MILLRACE_FEATURE("avx512bw")
  MILLRACE_FEATURE("avx512vl")
  MILLRACE_FEATURE("avx512vnni")
  MILLRACE_FEATURE("avx512bf16")
#undef MILLRACE_FEATURE
  if (unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;  // clang 14 has no name for this one
      __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0)
    out.emplace_back("f16c");
#endif
  return out;
}

// NVIDIA devices that the driver sees, without linking to it.
int64_t n_cuda_devices() {
  void* driver = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) return 0;
  const auto init = reinterpret_cast<int (*)(unsigned)>(::dlsym(driver, "cuInit"));
  const auto count = reinterpret_cast<int (*)(int*)>(::dlsym(driver, "cuDeviceGetCount"));
  int n = 0;
  if (init == nullptr || count == nullptr || init(0) != 0 || count(&n) != 0) n = 0;
  ::dlclose(driver);
  return n;
}

int64_t cache_bytes(int name) { return std::max<int64_t>(0, ::sysconf(name)); }

class Doctor final : public Command {
 public:
  void declare(Args& args) override { args.flag("--json", "Print one JSON object", is_json_); }

  void run() override {
    const Json report = examine();
    if (is_json_) {
      fmt::print("{}\n", report.dump(2));
      return;
    }
    for (const auto& [key, value] : report.as_object()) {
      if (key != "missing")
        fmt::print("{:<28} {}\n", key, value.is_string() ? value.as_string() : value.dump());
    }
    for (const Json& sentence : report.at("missing").as_array())
      fmt::print("missing: {}\n", sentence.as_string());
  }

 private:
  static Json examine() {
    Json out;
    const int n_cores = n_physical_cores();
    out["processor"] = processor_name();
    out["physical_cores"] = n_cores;
    out["logical_cores"] = static_cast<int64_t>(std::thread::hardware_concurrency());
    out["instruction_sets"] = cpu_features();
    out["kernels"] = cpu_instruction_sets().front();
    out["l2_cache_bytes"] = cache_bytes(_SC_LEVEL2_CACHE_SIZE);
    out["l3_cache_bytes"] = cache_bytes(_SC_LEVEL3_CACHE_SIZE);
    out["memory_bytes"] = static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
    out["available_memory_bytes"] = available_memory_bytes();
    const double bandwidth = measure_read_bandwidth(n_cores);
    out["read_bandwidth_bytes_per_s"] = bandwidth;
    const int64_t n_gpus = n_cuda_devices();
    out["cuda_devices"] = n_gpus;
    Json::Array missing;
    if (cpu_instruction_sets().front() == "scalar")
      missing.emplace_back("fast kernels: this processor has neither AVX2 nor AVX-512");
    if (n_gpus > 0 && !has_gpu())
      missing.emplace_back("a CUDA backend: the devices that are there are not used by this build");
    out["missing"] = std::move(missing);
    return out;
  }

  bool is_json_ = false;
};

}  // namespace

std::unique_ptr<Command> make_doctor() { return std::make_unique<Doctor>(); }

}  // namespace millrace
