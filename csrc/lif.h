// The functions that each instruction set offers, and how the one to run is found.
#pragma once

#include <cstdint>

// Potentials are kept for this many neurons at a time: 4 KiB, which stay in the first-level cache
// while all T steps of these neurons are run. A multiple of eight, so threads share no byte of bits.
constexpr int64_t kNeurons = 1024;

// One run over neurons [begin, end) of all steps; N is the distance between steps, in neurons.
struct LifForward {
    const void* x;
    void* spikes;
    uint8_t* fired;   // null: no gradient is needed
    uint8_t* window;  // null with fired
    int64_t T, N;
    float decay, threshold, half_window;
};

struct LifBackward {
    const void* grad_spikes;
    const uint8_t* fired;
    const uint8_t* window;
    void* grad_x;
    int64_t T, N;
    float decay;
};

struct Unpack {
    const uint8_t* bits;
    void* out;
    int64_t T, N;
};

struct Pack {
    const void* spikes;
    uint8_t* bits;
    int64_t T, N;
};

struct LifKernels {
    void (*forward[2])(const LifForward&, int64_t begin, int64_t end);  // float32, bfloat16
    void (*backward[2])(const LifBackward&, int64_t begin, int64_t end);
    void (*unpack[2])(const Unpack&, int64_t begin, int64_t end);
    void (*pack[2])(const Pack&, int64_t begin, int64_t end);
};

namespace portable {
extern const LifKernels lif_kernels;
}
namespace avx2 {
extern const LifKernels lif_kernels;
}
namespace avx512 {
extern const LifKernels lif_kernels;
}
namespace avx512vbmi2 {
extern const LifKernels lif_kernels;
}
