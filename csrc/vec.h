// The few vector operations of floats that the kernels need, for the instruction set this file is compiled for.
//
// Each source that includes this is compiled once per instruction set; everything lives in the
// namespace ISA, so that the linker can never pick a function made for another processor.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512BW__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace ISA {

// bfloat16 travels as its bits.
using bf16 = uint16_t;

#if defined(__AVX512BW__)

struct Vec {
    static constexpr int width = 16;
    using Mask = __mmask16;
    __m512 v;

    static Vec all(float f) { return {_mm512_set1_ps(f)}; }
    static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
    static Vec load(const bf16* p) {
        __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
        return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
    }
    static Vec load(const int32_t* p) { return {_mm512_cvtepi32_ps(_mm512_loadu_si512(p))}; }
    void store(float* p) const { _mm512_storeu_ps(p, v); }
    void store(bf16* p) const {
        __m512i bits = _mm512_castps_si512(v);
        __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        __m512i sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        __m512i top = _mm512_srli_epi32(sum, 16);
        top = _mm512_mask_mov_epi32(top, nan, _mm512_set1_epi32(0x7fc0));
        _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(top));
    }
    Vec operator*(Vec o) const { return {_mm512_mul_ps(v, o.v)}; }
    Vec operator+(Vec o) const { return {_mm512_add_ps(v, o.v)}; }
    Vec operator-(Vec o) const { return {_mm512_sub_ps(v, o.v)}; }
    Vec abs() const { return {_mm512_abs_ps(v)}; }
    Mask operator>(Vec o) const { return _mm512_cmp_ps_mask(v, o.v, _CMP_GT_OQ); }
    Vec where(Mask m) const { return {_mm512_maskz_mov_ps(m, v)}; }
    Vec where_not(Mask m) const { return where((Mask)~m); }
    static uint32_t bits(Mask m) { return m; }
    static Mask mask(uint32_t bits) { return (Mask)bits; }
};

#elif defined(__AVX2__)

struct Vec {
    static constexpr int width = 8;
    using Mask = __m256;
    __m256 v;

    static Vec all(float f) { return {_mm256_set1_ps(f)}; }
    static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
    static Vec load(const bf16* p) {
        __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
        return {_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))};
    }
    static Vec load(const int32_t* p) {
        return {_mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i*)p))};
    }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    void store(bf16* p) const {
        __m256i bits = _mm256_castps_si256(v);
        __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        __m256i sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        __m256i top = _mm256_srli_epi32(sum, 16);
        top = _mm256_blendv_epi8(top, _mm256_set1_epi32(0x7fc0), nan);
        __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(top, top), 0x88);
        _mm_storeu_si128((__m128i*)p, _mm256_castsi256_si128(packed));
    }
    Vec operator*(Vec o) const { return {_mm256_mul_ps(v, o.v)}; }
    Vec operator+(Vec o) const { return {_mm256_add_ps(v, o.v)}; }
    Vec operator-(Vec o) const { return {_mm256_sub_ps(v, o.v)}; }
    Vec abs() const { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), v)}; }
    Mask operator>(Vec o) const { return _mm256_cmp_ps(v, o.v, _CMP_GT_OQ); }
    Vec where(Mask m) const { return {_mm256_and_ps(m, v)}; }
    Vec where_not(Mask m) const { return {_mm256_andnot_ps(m, v)}; }
    static uint32_t bits(Mask m) { return (uint32_t)_mm256_movemask_ps(m); }
    static Mask mask(uint32_t bits) {
        const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        __m256i set = _mm256_and_si256(_mm256_set1_epi32((int)bits), lane);
        return _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, lane));
    }
};

#else

// Eight floats in plain loops: NEON and SSE come from the compiler.
struct Vec {
    static constexpr int width = 8;
    struct Mask {
        uint32_t lane[width];  // all ones or zero
    };
    float v[width];

    template <class F>
    static Vec make(F f) {
        Vec r;
        for (int i = 0; i < width; i++) r.v[i] = f(i);
        return r;
    }
    static float from_bits(uint32_t b) {
        float f;
        memcpy(&f, &b, 4);
        return f;
    }
    static uint32_t to_bits(float f) {
        uint32_t b;
        memcpy(&b, &f, 4);
        return b;
    }
    static Vec all(float f) {
        return make([=](int) { return f; });
    }
    static Vec load(const float* p) {
        return make([=](int i) { return p[i]; });
    }
    static Vec load(const bf16* p) {
        return make([=](int i) { return from_bits((uint32_t)p[i] << 16); });
    }
    static Vec load(const int32_t* p) {
        return make([=](int i) { return (float)p[i]; });
    }
    void store(float* p) const { memcpy(p, v, sizeof v); }
    void store(bf16* p) const {
        for (int i = 0; i < width; i++) {
            uint32_t b = to_bits(v[i]);
            uint32_t rounded = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
            p[i] = (bf16)((b & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
        }
    }
    Vec operator*(Vec o) const {
        return make([&](int i) { return v[i] * o.v[i]; });
    }
    Vec operator+(Vec o) const {
        return make([&](int i) { return v[i] + o.v[i]; });
    }
    Vec operator-(Vec o) const {
        return make([&](int i) { return v[i] - o.v[i]; });
    }
    Vec abs() const {
        return make([&](int i) { return from_bits(to_bits(v[i]) & 0x7fffffff); });
    }
    Mask operator>(Vec o) const {
        Mask m;
        for (int i = 0; i < width; i++) m.lane[i] = v[i] > o.v[i] ? ~0u : 0u;
        return m;
    }
    Vec where(Mask m) const {
        return make([&](int i) { return from_bits(to_bits(v[i]) & m.lane[i]); });
    }
    Vec where_not(Mask m) const {
        return make([&](int i) { return from_bits(to_bits(v[i]) & ~m.lane[i]); });
    }
    static uint32_t bits(Mask m) {
        uint32_t b = 0;
        for (int i = 0; i < width; i++) b |= m.lane[i] & (1u << i);
        return b;
    }
    static Mask mask(uint32_t bits) {
        Mask m;
        for (int i = 0; i < width; i++) m.lane[i] = bits >> i & 1 ? ~0u : 0u;
        return m;
    }
};

#endif

constexpr int W = Vec::width;

}  // namespace ISA
