// LIF over a range of neurons, compiled once per instruction set (see isa_*.cpp).
#include "lif.h"
#include "vec.h"

namespace ISA {
namespace {

// The last vector of a range may hold fewer than W neurons: it then goes through `padded`, because
// memory beyond the tensor may be read no more than written.
template <class T>
inline Vec load(const T* p, int64_t n) {
    if (n >= W) return Vec::load(p);
    T padded[W] = {};
    memcpy(padded, p, (size_t)n * sizeof(T));
    return Vec::load(padded);
}

template <class T>
inline void store(Vec v, T* p, int64_t n) {
    if (n >= W) return v.store(p);
    T padded[W];
    v.store(padded);
    memcpy(p, padded, (size_t)n * sizeof(T));
}

inline void store_bits(uint32_t bits, uint8_t* p, int64_t n) {
    if (n < W) bits &= (1u << n) - 1;
    p[0] = (uint8_t)bits;
    if (W == 16 && n > 8) p[1] = (uint8_t)(bits >> 8);
}

inline uint32_t load_bits(const uint8_t* p, int64_t n) {
    uint32_t bits = p[0];
    if (W == 16 && n > 8) bits |= (uint32_t)p[1] << 8;
    return bits;
}

template <class T>
void forward(const LifForward& a, int64_t begin, int64_t end) {
    const int64_t row = (a.N + 7) / 8;
    const Vec decay = Vec::all(a.decay), threshold = Vec::all(a.threshold);
    const Vec half = Vec::all(a.half_window), one = Vec::all(1.0f);
    float u_kept[kNeurons];  // potential after the reset
    for (int64_t t = 0; t < a.T; t++) {
        const T* x = (const T*)a.x + t * a.N;
        T* spikes = (T*)a.spikes + t * a.N;
        for (int64_t i = begin; i < end; i += W) {
            const int64_t n = end - i;
            float* kept = u_kept + (i - begin);
            Vec u = load(x + i, n);
            if (t > 0) u = decay * Vec::load(kept) + u;
            const auto s = u > threshold;
            u.where_not(s).store(kept);
            store(one.where(s), spikes + i, n);
            if (a.fired) {
                store_bits(Vec::bits(s), a.fired + t * row + i / 8, n);
                const auto near = half > (u - threshold).abs();
                store_bits(Vec::bits(near), a.window + t * row + i / 8, n);
            }
        }
    }
}

template <class T>
void backward(const LifBackward& a, int64_t begin, int64_t end) {
    const int64_t row = (a.N + 7) / 8;
    const Vec decay = Vec::all(a.decay);
    float g_next[kNeurons];
    for (int64_t t = a.T - 1; t >= 0; t--) {
        const T* grad_spikes = (const T*)a.grad_spikes + t * a.N;
        T* grad_x = (T*)a.grad_x + t * a.N;
        for (int64_t i = begin; i < end; i += W) {
            const int64_t n = end - i;
            float* next = g_next + (i - begin);
            const auto near = Vec::mask(load_bits(a.window + t * row + i / 8, n));
            Vec g = load(grad_spikes + i, n).where(near);
            if (t < a.T - 1) {
                const auto s = Vec::mask(load_bits(a.fired + t * row + i / 8, n));
                g = g + (decay * Vec::load(next)).where_not(s);
            }
            g.store(next);
            store(g, grad_x + i, n);
        }
    }
}

template <class T>
void unpack(const Unpack& a, int64_t begin, int64_t end) {
    const int64_t row = (a.N + 7) / 8;
    const Vec one = Vec::all(1.0f);
    for (int64_t t = 0; t < a.T; t++)
        for (int64_t i = begin; i < end; i += W) {
            const auto set = Vec::mask(load_bits(a.bits + t * row + i / 8, end - i));
            store(one.where(set), (T*)a.out + t * a.N + i, end - i);
        }
}

template <class T>
void pack(const Pack& a, int64_t begin, int64_t end) {
    const int64_t row = (a.N + 7) / 8;
    const Vec silent = Vec::all(0.0f);
    for (int64_t t = 0; t < a.T; t++)
        for (int64_t i = begin; i < end; i += W) {
            const auto fired = load((const T*)a.spikes + t * a.N + i, end - i) > silent;
            store_bits(Vec::bits(fired), a.bits + t * row + i / 8, end - i);
        }
}

}  // namespace

extern const LifKernels lif_kernels = {
    {forward<float>, forward<bf16>},
    {backward<float>, backward<bf16>},
    {unpack<float>, unpack<bf16>},
    {pack<float>, pack<bf16>},
};

}  // namespace ISA
