// Dense sums: the spikes that each pixel and step sees, times tiles of weights.
#pragma once

#include <cstring>

#include "pixels.inl"
#include "vec.h"

namespace ISA {
namespace {

void lay_out_bits(const ConvLif& call, const ConvTile& tile, uint64_t* bits) {
    const ConvLif a = call;
    each_run(a, tile, [=](int64_t run, auto words, auto word_of) {
        uint64_t* row = bits + run / 16 * words * 16 + run % 16;
        for (int64_t i = 0; i < words; i++) row[i * 16] = word_of(i);
    });
    const int64_t words = neighbour_words(a);
    // Rows that belong to no pixel fill the last block.
    for (int64_t run = (tile.end - tile.begin) * a.T; run % 16; run++)
        for (int64_t i = 0; i < words; i++) bits[(run / 16 * words + i) * 16 + run % 16] = 0;
}

void nothing() {}

// Four inputs at a time, those that are silent skipped.
void sums(const ProductArgs& a) {
    for (int64_t run = 0; run < a.runs; run++) {
        int32_t sum[3][16] = {};
        for (int64_t i = 0; i < a.words * 16; i++) {
            const int64_t word = i / 16;
            const uint64_t bits = a.spikes[(run / 16 * a.words + word) * 16 + run % 16];
            const uint64_t quad = bits >> i % 16 * 4;
            if (!(quad & 15)) continue;
            for (int64_t column = 0; column < a.columns; column++) {
                const int64_t tile = word * a.columns + column;
                const int8_t* weight = a.tiles + tile * kTileBytes + i % 16 * 64;
                for (int j = 0; j < 16; j++)
                    for (int k = 0; k < 4; k++)
                        sum[column][j] += (int32_t)(quad >> k & 1) * weight[j * 4 + k];
            }
        }
        if (a.columns < 3) {
            const int64_t size = a.columns * 16;
            memcpy((int32_t*)a.sums + run * size, sum, (size_t)size * sizeof(int32_t));
            continue;
        }
        for (int j = 0; j < 16; j++) {
            const float two = (float)sum[0][j] + 256.0f * (float)sum[1][j];
            ((float*)a.sums)[run * 16 + j] = two + 65536.0f * (float)sum[2][j];
        }
    }
}

const Product product = {nothing, sums, nothing};

}  // namespace
}  // namespace ISA
