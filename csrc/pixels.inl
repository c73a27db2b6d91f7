// The output pixels and steps of a tile, and the words of spikes that each one sees.
#pragma once

#include "conv.h"

namespace ISA {
namespace {

constexpr int kMaxWords = 9 * 128;  // 3 x 3 neighbours of at most 8192 channels

// The output pixel after the one at (b, y, x).
struct Pixel {
    int64_t b, y, x;
    Pixel(const ConvLif& a, int64_t p) : b(p / (a.OH * a.OW)), y(p / a.OW % a.OH), x(p % a.OW) {}
    void next(const ConvLif& a) {
        if (++x < a.OW) return;
        x = 0;
        if (++y < a.OH) return;
        y = 0;
        b++;
    }
};

// Bits of the neighbourhood, word `i`: one word of a tap, or several taps of 16 or 32 lanes.
template <int LANES, int TAPS>
inline uint64_t neighbours(const uint64_t* corner, const int64_t* offset, int64_t i) {
    if (LANES == 64) return corner[offset[i]];
    constexpr int TOGETHER = 64 / LANES;
    uint64_t word = 0;
    for (int k = 0; k < TOGETHER; k++)
        if (i * TOGETHER + k < TAPS) word |= corner[offset[i * TOGETHER + k]] << k * LANES;
    return word;
}

// Calls see(run, word_of) for each pixel and step; word_of(i) is word i of its neighbourhood.
// LANES is 64 for every multiple of 64.
template <int LANES, int TAPS, class See>
inline void each_run(const ConvLif& a, const ConvTile& tile, See see) {
    const int64_t per_pixel = words_of(a.lanes_in);
    const int64_t row = (a.W + 2) * per_pixel, picture = (a.H + 2) * row, step = a.B * picture;
    const int64_t centre = TAPS == 1 ? row + per_pixel : 0;  // 1 x 1 looks past the border
    int64_t offset[kMaxWords];                               // of each word of each tap
    for (int64_t tap = 0, i = 0; tap < TAPS; tap++)
        for (int64_t w = 0; w < per_pixel; w++)
            offset[i++] = centre + tap / 3 * row + tap % 3 * per_pixel + w;
    Pixel at(a, tile.begin);
    int64_t run = 0;
    for (int64_t p = tile.begin; p < tile.end; p++, at.next(a)) {
        const uint64_t* corner =
            a.spikes + at.b * picture + at.y * a.stride * row + at.x * a.stride * per_pixel;
        for (int64_t t = 0; t < a.T; t++, run++, corner += step)
            see(run, [&](int64_t i) { return neighbours<LANES, TAPS>(corner, offset, i); });
    }
}

template <class See>
inline void each_run(const ConvLif& a, const ConvTile& tile, See see) {
    if (a.kernel == 1) {
        if (a.lanes_in == 16) return each_run<16, 1>(a, tile, see);
        if (a.lanes_in == 32) return each_run<32, 1>(a, tile, see);
        return each_run<64, 1>(a, tile, see);
    }
    if (a.lanes_in == 16) return each_run<16, 9>(a, tile, see);
    if (a.lanes_in == 32) return each_run<32, 9>(a, tile, see);
    each_run<64, 9>(a, tile, see);
}

}  // namespace
}  // namespace ISA
