// The output pixels and steps of a tile, and the words of spikes that each one sees.
#pragma once

#include <type_traits>

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

// The words of a neighbourhood: one tap of 64 lanes in each, or several of 16 or 32.
template <int LANES, int TAPS>
struct Neighbours {
    static constexpr int64_t count = (TAPS * LANES + 63) / 64;
    uint64_t word[count] = {};

    Neighbours(const uint64_t* corner, int64_t row) {
        for (int tap = 0; tap < TAPS; tap++)
            word[tap * LANES / 64] |= corner[tap / 3 * row + tap % 3] << tap * LANES % 64;
    }
};

// Calls see(run, words, word_of) for each pixel and step; word_of(i) is word i of its
// neighbourhood. LANES is 0 for 128 lanes and more; below, `words` is known to the compiler, and
// the loop over them can be unrolled.
template <int LANES, int TAPS, class See>
inline void each_run(const ConvLif& a, const ConvTile& tile, See see) {
    const int64_t per_pixel = words_of(a.lanes_in);
    const int64_t row = (a.W + 2) * per_pixel, picture = (a.H + 2) * row, step = a.B * picture;
    const int64_t centre = TAPS == 1 ? row + per_pixel : 0;  // 1 x 1 looks past the border
    int64_t offset[LANES ? 1 : kMaxWords];                   // of each word of each tap
    for (int64_t tap = 0, i = 0; tap < TAPS && !LANES; tap++)
        for (int64_t w = 0; w < per_pixel; w++)
            offset[i++] = tap / 3 * row + tap % 3 * per_pixel + w;
    Pixel at(a, tile.begin);
    int64_t run = 0;
    for (int64_t p = tile.begin; p < tile.end; p++, at.next(a)) {
        const uint64_t* corner = a.spikes + centre + at.b * picture + at.y * a.stride * row +
                                 at.x * a.stride * per_pixel;
        for (int64_t t = 0; t < a.T; t++, run++, corner += step) {
            if constexpr (LANES) {
                const Neighbours<LANES, TAPS> seen(corner, row);
                see(run, std::integral_constant<int64_t, seen.count>(),
                    [&](int64_t i) { return seen.word[i]; });
            } else {
                see(run, TAPS * per_pixel, [&](int64_t i) { return corner[offset[i]]; });
            }
        }
    }
}

template <int TAPS, class See>
inline void each_run(const ConvLif& a, const ConvTile& tile, See see) {
    switch (a.lanes_in) {
        case 16: return each_run<16, TAPS>(a, tile, see);
        case 32: return each_run<32, TAPS>(a, tile, see);
        case 64: return each_run<64, TAPS>(a, tile, see);
        default: each_run<0, TAPS>(a, tile, see);
    }
}

template <class See>
inline void each_run(const ConvLif& a, const ConvTile& tile, See see) {
    a.kernel == 1 ? each_run<1>(a, tile, see) : each_run<9>(a, tile, see);
}

}  // namespace
}  // namespace ISA
