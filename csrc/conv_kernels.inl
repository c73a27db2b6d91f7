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

void build_lists(const ConvLif& a, const ConvTile& tile, const Lists& s) {
    const int64_t per_pixel = words_of(a.lanes_in);
    const int64_t row = (a.W + 2) * per_pixel, picture = (a.H + 2) * row, step = a.B * picture;
    const int64_t taps = a.kernel * a.kernel, words = (taps * a.lanes_in + 63) / 64;
    const int64_t centre = a.kernel == 1 ? row + per_pixel : 0;  // 1 x 1 looks past the border
    const int64_t taps_a_word = a.lanes_in < 64 ? 64 / a.lanes_in : 1;
    int64_t offset[kMaxWords];  // of the word of each tap, or of each word of each tap
    for (int64_t tap = 0, i = 0; tap < taps; tap++)
        for (int64_t w = 0; w < per_pixel; w++)
            offset[i++] = centre + tap / a.kernel * row + tap % a.kernel * per_pixel + w;

    Pixel at(a, tile.begin);
    int64_t run = 0;
    for (int64_t p = tile.begin; p < tile.end; p++, at.next(a)) {
        const uint64_t* corner =
            a.spikes + at.b * picture + at.y * a.stride * row + at.x * a.stride * per_pixel;
        for (int64_t t = 0; t < a.T; t++, run++, corner += step)
            for (int64_t c = 0, i = 0; c < s.chunks; c++) {
                uint16_t* list = s.list(c, run);
                int64_t n = 0;
                for (int64_t j = 0; j < chunk_words(a) && i < words; j++, i++) {
                    uint64_t word = 0;
                    if (taps_a_word == 1) {
                        word = corner[offset[i]];
                    } else {
                        for (int64_t k = 0; k < taps_a_word && i * taps_a_word + k < taps; k++)
                            word |= corner[offset[i * taps_a_word + k]] << k * a.lanes_in;
                    }
                    if (word) n += append(word, j * 64, list + n);
                }
                s.counts[c * s.runs + run] = (int32_t)n;
            }
    }
    for (; run < s.runs; run++)
        for (int64_t c = 0; c < s.chunks; c++) s.counts[c * s.runs + run] = 0;
}

// Narrow blocks have too few sums to hide an addition's latency, so several runs go side by side;
// the shorter lists are filled up with `zero`, the row of zeros behind the weights.
template <int BLOCK>
void add_rows(const float* weight, uint16_t zero, const Lists& s, int64_t chunk) {
    constexpr int R = BLOCK / W, GROUP = 64 / BLOCK;
    for (int64_t run = 0; run < s.runs; run += GROUP) {
        const int32_t* counts = s.counts + chunk * s.runs + run;
        float* sums = s.sums + run * BLOCK;
        uint16_t* list = s.list(chunk, run);
        int32_t longest = counts[0];
        for (int g = 1; g < GROUP; g++) longest = counts[g] > longest ? counts[g] : longest;
        for (int g = 0; GROUP > 1 && g < GROUP; g++)
            for (int32_t i = counts[g]; i < longest; i++) list[g * s.capacity + i] = zero;
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

// Batch norm, shortcut and LIF for one block of channels of one pixel, step after step.
template <int BLOCK>
void finish(const ConvLif& a, const float* value, int64_t value_step, const Pixel& at, int64_t lane,
            int64_t* spikes) {
    const Vec decay = Vec::all(a.decay), threshold = Vec::all(a.threshold);
    const int64_t pixel = ((at.b * a.OH + at.y) * a.OW + at.x) * a.lanes_out + lane;
    const int64_t words = words_of(a.lanes_out);
    const int64_t picture = (a.OH + 2) * (a.OW + 2) * words;
    uint64_t* word =
        a.fired + at.b * picture + ((at.y + 1) * (a.OW + 2) + at.x + 1) * words + lane / 64;
    Vec u[BLOCK / W];
    for (int64_t t = 0; t < a.T; t++) {
        uint64_t fired = 0;
        for (int r = 0; r < BLOCK / W; r++) {
            const int64_t i = r * W, out = t * a.B * a.OH * a.OW * a.lanes_out + pixel + i;
            Vec y = Vec::load(value + t * value_step + i);
            if (a.scale) y = y * Vec::load(a.scale + lane + i) + Vec::load(a.shift + lane + i);
            if (a.residual) {
                Vec shortcut = Vec::load(a.residual + t * a.residual_step + pixel + i);
                if (a.residual_scale)
                    shortcut = shortcut * Vec::load(a.residual_scale + lane + i) +
                               Vec::load(a.residual_shift + lane + i);
                y = y + shortcut;
            }
            if (a.potential) y.store(a.potential + out);
            u[r] = t ? decay * u[r] + y : y;
            const auto s = u[r] > threshold;
            fired |= (uint64_t)Vec::bits(s) << i;
            u[r] = u[r].where_not(s);
        }
        *word = fired;
        spikes[t] += __builtin_popcountll(fired);
        word += a.B * picture;
    }
}

template <int BLOCK>
void tile_of_blocks(const ConvLif& a, const ConvTile& tile, void* scratch) {
    const int64_t taps_lanes = a.kernel * a.kernel * a.lanes_in;
    Lists s = lay_out(a, tile.end - tile.begin, scratch);
    memset(s.spikes, 0, (size_t)a.T * sizeof *s.spikes);
    if (a.spikes) build_lists(a, tile, s);
    for (int64_t block = tile.first_block; block < tile.last_block; block++) {
        for (int64_t c = 0; a.spikes && c < s.chunks; c++) {
            const int64_t first_row = c * chunk_words(a) * 64;
            const float* weight = a.weight + (block * (taps_lanes + 1) + first_row) * BLOCK;
            add_rows<BLOCK>(weight, (uint16_t)(taps_lanes - first_row), s, c);
        }
        Pixel at(a, tile.begin);
        for (int64_t p = tile.begin; p < tile.end; p++, at.next(a)) {
            const bool event = a.spikes != nullptr;
            const float* value = event ? s.sums + (p - tile.begin) * a.T * BLOCK
                                       : a.dense + p * a.lanes_out + block * BLOCK;
            finish<BLOCK>(a, value, event ? BLOCK : a.dense_step, at, block * BLOCK, s.spikes);
        }
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
