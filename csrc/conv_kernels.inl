// One tile of the event-driven convolution, compiled once per instruction set (see isa_*.cpp).
#include "conv.h"
#include "lists.inl"
#include "vec.h"

namespace ISA {
namespace {

constexpr int kMaxWords = 9 * 128;  // 3 x 3 neighbours of at most 8192 channels

// A tile's lists: for each chunk of weights and each pixel and step, the rows to add.
struct Lists {
    int64_t chunks, runs, capacity;  // runs: pixels * steps, rounded up to a group
    int32_t* counts;                 // (chunks, runs)
    uint16_t* rows;                  // (chunks, runs, capacity)
    float* sums;                     // (runs, block)
    int64_t* spikes;                 // (T)

    uint16_t* list(int64_t chunk, int64_t run) const {
        return rows + (chunk * runs + run) * capacity;
    }
};

Lists lay_out(const ConvLif& a, int64_t pixels, void* scratch) {
    Lists s;
    const int64_t words = (a.kernel * a.kernel * a.lanes_in + 63) / 64;
    s.chunks = (words + chunk_words(a) - 1) / chunk_words(a);
    s.runs = (pixels * a.T + 3) / 4 * 4;
    s.capacity = chunk_words(a) * 64 + kSlack;
    s.spikes = (int64_t*)scratch;
    s.sums = (float*)(s.spikes + (a.T + 7) / 8 * 8);
    s.counts = (int32_t*)(s.sums + s.runs * block_of(a.lanes_out));
    s.rows = (uint16_t*)(s.counts + s.chunks * s.runs);
    return s;
}

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

// The row of zeros behind the weights, as seen from a chunk.
inline uint16_t zero_row(const ConvLif& a, int64_t first_row) {
    return (uint16_t)(a.kernel * a.kernel * a.lanes_in - first_row);
}

// Behind the end of a list comes the row of zeros, so that lists of a group may be read together up
// to the end of the longest without a branch for each.
inline void fill(uint16_t* end, const ConvLif& a, int64_t first_row) {
    for (int64_t i = 0; i < kFill; i++) end[i] = zero_row(a, first_row);
}

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

// LANES is 64 for every multiple of 64.
template <int LANES, int TAPS>
void build_lists(const ConvLif& call, const ConvTile& tile, const Lists& lists) {
    // Copies: a vector store may alias everything that is reached through a reference.
    const ConvLif a = call;
    const Lists s = lists;
    const int64_t per_pixel = words_of(a.lanes_in);
    const int64_t row = (a.W + 2) * per_pixel, picture = (a.H + 2) * row, step = a.B * picture;
    const int64_t words = LANES < 64 ? (TAPS * LANES + 63) / 64 : TAPS * per_pixel;
    const int64_t centre = TAPS == 1 ? row + per_pixel : 0;  // 1 x 1 looks past the border
    const int64_t chunk = chunk_words(a);
    int64_t offset[kMaxWords];  // of each word of each tap
    for (int64_t tap = 0, i = 0; tap < TAPS; tap++)
        for (int64_t w = 0; w < per_pixel; w++)
            offset[i++] = centre + tap / 3 * row + tap % 3 * per_pixel + w;

    Pixel at(a, tile.begin);
    int64_t run = 0;
    for (int64_t p = tile.begin; p < tile.end; p++, at.next(a)) {
        const uint64_t* corner =
            a.spikes + at.b * picture + at.y * a.stride * row + at.x * a.stride * per_pixel;
        for (int64_t t = 0; t < a.T; t++, run++, corner += step)
            for (int64_t c = 0, first = 0; c < s.chunks; c++, first += chunk) {
                const int64_t last = first + chunk < words ? first + chunk : words;
                uint16_t* list = s.list(c, run);
                int64_t n = 0;
                for (int64_t i = first; i < last; i++) {
                    const uint64_t word = neighbours<LANES, TAPS>(corner, offset, i);
                    if (word) n += append(word, (i - first) * 64, list + n);
                }
                s.counts[c * s.runs + run] = (int32_t)n;
                if (a.lanes_out < 64) fill(list + n, a, first * 64);
            }
    }
    for (; run < s.runs; run++)
        for (int64_t c = 0; c < s.chunks; c++) {
            s.counts[c * s.runs + run] = 0;
            fill(s.list(c, run), a, c * chunk * 64);
        }
}

template <int TAPS>
void build_lists(const ConvLif& a, const ConvTile& tile, const Lists& s) {
    if (a.lanes_in == 16) return build_lists<16, TAPS>(a, tile, s);
    if (a.lanes_in == 32) return build_lists<32, TAPS>(a, tile, s);
    build_lists<64, TAPS>(a, tile, s);
}

// Narrow blocks have too few sums to hide an addition's latency, so several runs go side by side.
template <int BLOCK>
void add_rows(const float* weight, uint16_t zero, const Lists& lists, int64_t chunk) {
    constexpr int R = BLOCK / W, GROUP = 64 / BLOCK;
    const Lists s = lists;
    for (int64_t run = 0; run < s.runs; run += GROUP) {
        const int32_t* counts = s.counts + chunk * s.runs + run;
        float* sums = s.sums + run * BLOCK;
        uint16_t* list = s.list(chunk, run);
        int32_t longest = counts[0];
        for (int g = 1; g < GROUP; g++) longest = counts[g] > longest ? counts[g] : longest;
        for (int g = 0; GROUP > 1 && g < GROUP; g++)
            for (int64_t i = counts[g] + kFill; i < longest; i++) list[g * s.capacity + i] = zero;
        Vec sum[GROUP][R];
        for (int g = 0; g < GROUP; g++)
            for (int r = 0; r < R; r++)
                sum[g][r] = chunk ? Vec::load(sums + g * BLOCK + r * W) : Vec::all(0.0f);
        for (int32_t i = 0; i < longest; i++)
            for (int g = 0; g < GROUP; g++) {
                const float* row = weight + (int64_t)list[g * s.capacity + i] * BLOCK;
                for (int r = 0; r < R; r++) sum[g][r] = sum[g][r] + Vec::load(row + r * W);
            }
        for (int g = 0; g < GROUP; g++)
            for (int r = 0; r < R; r++) sum[g][r].store(sums + g * BLOCK + r * W);
    }
}

// Batch norm, shortcut and LIF for one block of channels of a tile, step after step.
template <int BLOCK>
void finish(const ConvLif& call, const ConvTile& tile, const Lists& s, int64_t block) {
    const ConvLif a = call;
    const Vec decay = Vec::all(a.decay), threshold = Vec::all(a.threshold);
    const int64_t lane = block * BLOCK, words = words_of(a.lanes_out);
    const int64_t picture = (a.OH + 2) * (a.OW + 2) * words;
    const int64_t potential_step = a.B * a.OH * a.OW * a.lanes_out;
    const int64_t value_step = a.spikes ? BLOCK : a.dense_step;
    int64_t* spikes = s.spikes;
    Pixel at(a, tile.begin);
    for (int64_t p = tile.begin; p < tile.end; p++, at.next(a)) {
        const int64_t pixel = p * a.lanes_out + lane;
        const float* value =
            a.spikes ? s.sums + (p - tile.begin) * a.T * BLOCK : a.dense + pixel;
        uint64_t* word =
            a.fired + at.b * picture + ((at.y + 1) * (a.OW + 2) + at.x + 1) * words + lane / 64;
        Vec u[BLOCK / W];
        for (int64_t t = 0; t < a.T; t++) {
            uint64_t fired = 0;
            for (int r = 0; r < BLOCK / W; r++) {
                const int64_t i = r * W;
                Vec y = Vec::load(value + t * value_step + i);
                if (a.scale) y = y * Vec::load(a.scale + lane + i) + Vec::load(a.shift + lane + i);
                if (a.residual) {
                    Vec shortcut = Vec::load(a.residual + t * a.residual_step + pixel + i);
                    if (a.residual_scale)
                        shortcut = shortcut * Vec::load(a.residual_scale + lane + i) +
                                   Vec::load(a.residual_shift + lane + i);
                    y = y + shortcut;
                }
                if (a.potential) y.store(a.potential + t * potential_step + pixel + i);
                u[r] = t ? decay * u[r] + y : y;
                const auto fires = u[r] > threshold;
                fired |= (uint64_t)Vec::bits(fires) << i;
                u[r] = u[r].where_not(fires);
            }
            word[t * a.B * picture] = fired;
            spikes[t] += __builtin_popcountll(fired);
        }
    }
}

template <int BLOCK>
void tile_of_blocks(const ConvLif& a, const ConvTile& tile, void* scratch) {
    const int64_t taps_lanes = a.kernel * a.kernel * a.lanes_in;
    Lists s = lay_out(a, tile.end - tile.begin, scratch);
    memset(s.spikes, 0, (size_t)a.T * sizeof *s.spikes);
    if (a.spikes) a.kernel == 1 ? build_lists<1>(a, tile, s) : build_lists<9>(a, tile, s);
    for (int64_t block = tile.first_block; block < tile.last_block; block++) {
        for (int64_t c = 0; a.spikes && c < s.chunks; c++) {
            const int64_t first_row = c * chunk_words(a) * 64;
            const float* weight = a.weight + (block * (taps_lanes + 1) + first_row) * BLOCK;
            add_rows<BLOCK>(weight, zero_row(a, first_row), s, c);
        }
        finish<BLOCK>(a, tile, s, block);
    }
    for (int64_t t = 0; t < a.T; t++)
        __atomic_fetch_add(a.counts + t, s.spikes[t], __ATOMIC_RELAXED);
}

}  // namespace

void conv_tile(const ConvLif& a, const ConvTile& tile, void* scratch) {
    switch (block_of(a.lanes_out)) {
        case 16: return tile_of_blocks<16>(a, tile, scratch);
        case 32: return tile_of_blocks<32>(a, tile, scratch);
        default: return tile_of_blocks<64>(a, tile, scratch);
    }
}

}  // namespace ISA
