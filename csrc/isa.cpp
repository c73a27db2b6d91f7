#include "isa.h"

#include <atomic>

#include "product.h"

#define API extern "C" __attribute__((visibility("default")))

// Goes up with every change of the C interface or of a structure that crosses it; `ABI` in
// msr_zoo/kernels/native.py.
API int msr_abi() { return 3; }

static Isa best_isa() {
#if defined(MSR_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        if (!__builtin_cpu_supports("avx512vbmi2")) return kAvx512;
        return amx::ready() ? kAmx : kAvx512Vbmi2;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return kAvx2;
#endif
    return kPortable;
}

static std::atomic<Isa> selected{best_isa()};

Isa current_isa() { return selected.load(std::memory_order_relaxed); }

// Use `level`, or the best below it that this processor has; tells which. For tests and benchmarks.
API int msr_select_isa(int level) {
    const Isa best = best_isa();
    selected = level < kPortable ? kPortable : level > best ? best : (Isa)level;
    return selected;
}

API int msr_isa() { return current_isa(); }
