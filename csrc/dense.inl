// Dense sums: the spikes that each pixel and step sees, as bytes, times tiles of weights.
#pragma once

#include <cstring>

#include "pixels.inl"
#include "vec.h"

namespace ISA {
namespace {

// 64 bits to 64 bytes of 0 and 1.
inline void to_bytes(uint64_t word, int8_t* bytes) {
#if defined(__AVX512BW__)
    _mm512_storeu_si512(bytes, _mm512_maskz_set1_epi8((__mmask64)word, 1));
#else
    for (int i = 0; i < 64; i += 8) {
        // Bit j of byte j is kept, then moved to the byte's top and down to its foot.
        uint64_t spread = (word >> i & 255) * 0x0101010101010101 & 0x8040201008040201;
        spread = (spread + 0x7f7f7f7f7f7f7f7f) >> 7 & 0x0101010101010101;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        spread = __builtin_bswap64(spread);
#endif
        memcpy(bytes + i, &spread, 8);
    }
#endif
}

void spikes_to_bytes(const ConvLif& call, const ConvTile& tile, int8_t* bytes) {
    const ConvLif a = call;
    const int64_t words = neighbour_words(a);
    each_run(a, tile, [=](int64_t run, auto word_of) {
        for (int64_t i = 0; i < words; i++) to_bytes(word_of(i), bytes + (run * words + i) * 64);
    });
    // Rows that belong to no pixel fill the last group.
    const int64_t runs = (tile.end - tile.begin) * a.T, rows = runs_of(a, tile.end - tile.begin);
    memset(bytes + runs * words * 64, 0, (size_t)((rows - runs) * words * 64));
}

// Four inputs at a time, those that are silent skipped.
void product(const ProductArgs& a) {
    const int64_t columns = a.block / 16, width = columns * a.digits;
    for (int64_t run = 0; run < a.runs; run++)
        for (int64_t column = 0; column < width; column++) {
            const int64_t n = column / a.digits, digit = column % a.digits;
            int32_t sum[16] = {};
            for (int64_t quad = 0; quad < a.words * 16; quad++) {
                const int8_t* spikes = a.spikes + (run * a.words * 16 + quad) * 4;
                uint32_t any;
                memcpy(&any, spikes, 4);
                if (!any) continue;
                const int64_t tile = (n * a.words + quad / 16) * a.digits + digit;
                const int8_t* weight = a.tiles + tile * kTileBytes + quad % 16 * 64;
                for (int j = 0; j < 16; j++)
                    for (int k = 0; k < 4; k++) sum[j] += spikes[k] * weight[j * 4 + k];
            }
            memcpy(a.sums + (digit * a.runs + run) * a.block + n * 16, sum, sizeof sum);
        }
}

}  // namespace
}  // namespace ISA
