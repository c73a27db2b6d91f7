// From bits to lists of set bits: a list is read once a block of output channels, and its length is
// known before the additions start, so the processor mispredicts one branch a list and not one a word.
#include <cstdint>
#include <cstring>

#include "conv.h"
#include "vec.h"

namespace ISA {
namespace {

#if defined(__AVX512VBMI2__)

inline int64_t append(uint64_t word, int64_t base, uint16_t* list) {
    alignas(64) static const uint8_t count[64] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const __m512i from = _mm512_set1_epi16((short)base);
    const __m512i at = _mm512_maskz_compress_epi8(word, _mm512_load_si512(count));
    const auto wide = [=](__m256i bytes) {
        return _mm512_add_epi16(_mm512_maskz_cvtepu8_epi16(~0u, bytes), from);
    };
    _mm512_storeu_si512(list, wide(_mm512_castsi512_si256(at)));
    const int64_t n = __builtin_popcountll(word);
    if (n > 32) _mm512_storeu_si512(list + 32, wide(_mm512_extracti64x4_epi64(at, 1)));
    return n;
}

#elif defined(__AVX512BW__)

inline int64_t append(uint64_t word, int64_t base, uint16_t* list) {
    const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int64_t n = 0;
    for (int part = 0; part < 64; part += 16) {
        const __mmask16 set = (__mmask16)(word >> part);
        const __m512i at = _mm512_add_epi32(count, _mm512_set1_epi32((int)base + part));
        const __m512i packed = _mm512_maskz_compress_epi32(set, at);
        _mm256_storeu_si256((__m256i*)(list + n), _mm512_maskz_cvtepi32_epi16(0xffff, packed));
        n += __builtin_popcountll(set);
    }
    return n;
}

#else

struct BitTable {
    uint16_t at[256][8];
    uint8_t count[256];
    constexpr BitTable() : at(), count() {
        for (int byte = 0; byte < 256; byte++)
            for (int bit = 0; bit < 8; bit++)
                if (byte >> bit & 1) at[byte][count[byte]++] = (uint16_t)bit;
    }
};
constexpr BitTable table;

inline int64_t append(uint64_t word, int64_t base, uint16_t* list) {
    int64_t n = 0;
    for (int part = 0; part < 64; part += 8) {
        const int byte = (int)(word >> part & 255);
        uint16_t entries[8];
        for (int i = 0; i < 8; i++) entries[i] = (uint16_t)(table.at[byte][i] + base + part);
        memcpy(list + n, entries, sizeof entries);
        n += table.count[byte];
    }
    return n;
}

#endif

}  // namespace
}  // namespace ISA
