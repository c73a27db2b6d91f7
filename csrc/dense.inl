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
    each_run(a, tile, [=](int64_t run, auto words, auto word_of) {
        int8_t* row = bytes + (run / 16 * words * 16 + run % 16) * 64;
        for (int64_t i = 0; i < words; i++, row += 16 * 64) to_bytes(word_of(i), row);
    });
    const int64_t words = neighbour_words(a);
    // Rows that belong to no pixel fill the last group.
    for (int64_t run = (tile.end - tile.begin) * a.T; run % 16; run++)
        for (int64_t i = 0; i < words; i++)
            memset(bytes + ((run / 16 * words + i) * 16 + run % 16) * 64, 0, 64);
}

// Four inputs at a time, those that are silent skipped.
void product(const ProductArgs& a) {
    const int64_t columns = columns_of(a);
    for (int64_t run = 0; run < a.runs; run++)
        for (int64_t i = 0; i < groups_of(a) * columns; i++) {
            const int64_t group = i / columns, column = i % columns;
            int32_t sum[16] = {};
            for (int64_t quad = 0; quad < a.words * 16; quad++) {
                const int64_t word = run / 16 * a.words + quad / 16;
                const int8_t* spikes = a.spikes + (word * 16 + run % 16) * 64 + quad % 16 * 4;
                uint32_t any;
                memcpy(&any, spikes, 4);
                if (!any) continue;
                const int64_t tile = (group * a.words + quad / 16) * columns + column;
                const int8_t* weight = a.tiles + tile * kTileBytes + quad % 16 * 64;
                for (int j = 0; j < 16; j++)
                    for (int k = 0; k < 4; k++) sum[j] += spikes[k] * weight[j * 4 + k];
            }
            const int64_t of_digit = a.digits == 3 ? column * a.runs * a.block + group * 16
                                                   : column * 16;
            memcpy(a.sums + of_digit + run * a.block, sum, sizeof sum);
        }
}

}  // namespace
}  // namespace ISA
