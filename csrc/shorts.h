// Sums of bytes in lanes of 16 bits, for the instruction set this file is compiled for.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512BW__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace ISA {

#if defined(__AVX512BW__)

struct Shorts32 {
    static constexpr int width = 32;
    __m512i v;

    static Shorts32 zero() { return {_mm512_setzero_si512()}; }
    void add(const int8_t* row) {
        v = _mm512_add_epi16(v, _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)row)));
    }
    // Adds the lanes to 32 sums, or makes them the sums.
    void flush(int32_t* sums, bool first) const {
        for (int half = 0; half < 2; half++, sums += 16) {
            const __m256i part =
                half ? _mm512_extracti64x4_epi64(v, 1) : _mm512_castsi512_si256(v);
            const __m512i before = first ? _mm512_setzero_si512() : _mm512_loadu_si512(sums);
            _mm512_storeu_si512(sums, _mm512_add_epi32(before, _mm512_cvtepi16_epi32(part)));
        }
    }
};

#endif

#if defined(__AVX512BW__) || defined(__AVX2__)

struct Shorts16 {
    static constexpr int width = 16;
    __m256i v;

    static Shorts16 zero() { return {_mm256_setzero_si256()}; }
    void add(const int8_t* row) {
        v = _mm256_add_epi16(v, _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)row)));
    }
    void add(const int16_t* row) {
        v = _mm256_add_epi16(v, _mm256_loadu_si256((const __m256i*)row));
    }
    void add(Shorts16 other) { v = _mm256_add_epi16(v, other.v); }
    void flush(int32_t* sums, bool first) const {
        for (int half = 0; half < 2; half++, sums += 8) {
            const __m128i part = half ? _mm256_extracti128_si256(v, 1) : _mm256_castsi256_si128(v);
            const __m256i before =
                first ? _mm256_setzero_si256() : _mm256_loadu_si256((const __m256i*)sums);
            const __m256i sum = _mm256_add_epi32(before, _mm256_cvtepi16_epi32(part));
            _mm256_storeu_si256((__m256i*)sums, sum);
        }
    }
};

#else

struct Shorts16 {
    static constexpr int width = 16;
    int16_t v[width];

    static Shorts16 zero() { return {}; }
    void add(const int8_t* row) {
        for (int i = 0; i < width; i++) v[i] = (int16_t)(v[i] + row[i]);
    }
    void add(const int16_t* row) {
        for (int i = 0; i < width; i++) v[i] = (int16_t)(v[i] + row[i]);
    }
    void add(Shorts16 other) { add(other.v); }
    void flush(int32_t* sums, bool first) const {
        for (int i = 0; i < width; i++) sums[i] = (first ? 0 : sums[i]) + v[i];
    }
};

#endif

template <int BLOCK>
struct ShortsFor {
    using Type = Shorts16;
};
#if defined(__AVX512BW__)
template <>
struct ShortsFor<32> {
    using Type = Shorts32;
};
template <>
struct ShortsFor<64> {
    using Type = Shorts32;
};
#endif

}  // namespace ISA
