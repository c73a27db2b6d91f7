// The C interface of LIF: tensors are T contiguous slabs of N elements, dtype 0 is float32 and 1 is
// bfloat16. Bit j of byte k of row t of `fired` and `window` is element 8k + j of slab t.
#include "lif.h"

#include "isa.h"

#define API extern "C" __attribute__((visibility("default")))

static const LifKernels& kernels() {
#if defined(MSR_X86)
    if (current_isa() >= kAvx512Vbmi2) return avx512vbmi2::lif_kernels;
    if (current_isa() == kAvx512) return avx512::lif_kernels;
    if (current_isa() == kAvx2) return avx2::lif_kernels;
#endif
    return portable::lif_kernels;
}

template <class Args>
static void over_neurons(void (*kernel)(const Args&, int64_t, int64_t), const Args& a,
                         int threads) {
    const int64_t chunks = (a.N + kNeurons - 1) / kNeurons;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1 && chunks > 16)
    for (int64_t c = 0; c < chunks; c++) {
        const int64_t begin = c * kNeurons, end = begin + kNeurons;
        kernel(a, begin, end < a.N ? end : a.N);
    }
}

API void msr_lif_forward(const void* x, void* spikes, uint8_t* fired, uint8_t* window, int64_t T,
                         int64_t N, float decay, float threshold, float half_window, int dtype,
                         int threads) {
    const LifForward a{x, spikes, fired, window, T, N, decay, threshold, half_window};
    over_neurons(kernels().forward[dtype], a, threads);
}

API void msr_lif_backward(const void* grad_spikes, const uint8_t* fired, const uint8_t* window,
                          void* grad_x, int64_t T, int64_t N, float decay, int dtype,
                          int threads) {
    const LifBackward a{grad_spikes, fired, window, grad_x, T, N, decay};
    over_neurons(kernels().backward[dtype], a, threads);
}

API void msr_pack(const void* spikes, uint8_t* bits, int64_t T, int64_t N, int dtype, int threads) {
    const Pack a{spikes, bits, T, N};
    over_neurons(kernels().pack[dtype], a, threads);
}

API void msr_unpack(const uint8_t* bits, void* out, int64_t T, int64_t N, int dtype, int threads) {
    const Unpack a{bits, out, T, N};
    over_neurons(kernels().unpack[dtype], a, threads);
}
