// One tile of a convolution of spikes, compiled once per instruction set (see isa_*.cpp).
#include "conv.h"
#include "dense.inl"
#include "events.inl"
#include "vec.h"

namespace ISA {
namespace {

// The convolved values of a tile, 16 or more lanes at a time: floats, or sums of one or three
// digits (`digits`, runs, block).
template <int64_t WEIGHTS>
struct Values {
    const void* at;
    int64_t digit;  // from one digit's sums to the next

    Vec load(int64_t i) const {
        if (WEIGHTS == kFloatRows) return Vec::load((const float*)at + i);
        const int32_t* sums = (const int32_t*)at + i;
        if (WEIGHTS != kTiles3) return Vec::load(sums);
        const Vec low = Vec::load(sums) + Vec::all(256.0f) * Vec::load(sums + digit);
        return low + Vec::all(65536.0f) * Vec::load(sums + 2 * digit);
    }
};

// Batch norm, shortcut and LIF for one block of channels of a tile, step after step.
template <int BLOCK, int64_t WEIGHTS>
void finish(const ConvLif& call, const ConvTile& tile, const void* sums, int64_t* spikes,
            int64_t block) {
    const ConvLif a = call;
    const Vec decay = Vec::all(a.decay), threshold = Vec::all(a.threshold);
    const int64_t lane = block * BLOCK, words = words_of(a.lanes_out);
    const int64_t picture = (a.OH + 2) * (a.OW + 2) * words;
    const int64_t potential_step = a.B * a.OH * a.OW * a.lanes_out;
    const int64_t value_step = a.spikes ? BLOCK : a.dense_step;
    const Values<WEIGHTS> values = {a.spikes ? sums : a.dense,
                                    runs_of(a, tile.end - tile.begin) * BLOCK};
    Pixel at(a, tile.begin);
    for (int64_t p = tile.begin; p < tile.end; p++, at.next(a)) {
        const int64_t pixel = p * a.lanes_out + lane;
        const int64_t value = a.spikes ? (p - tile.begin) * a.T * BLOCK : pixel;
        uint64_t* word =
            a.fired + at.b * picture + ((at.y + 1) * (a.OW + 2) + at.x + 1) * words + lane / 64;
        Vec u[BLOCK / W];
        for (int64_t t = 0; t < a.T; t++) {
            uint64_t fired = 0;
            for (int r = 0; r < BLOCK / W; r++) {
                const int64_t i = r * W;
                Vec y = values.load(value + t * value_step + i);
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

template <int BLOCK, class Sums>
void event_sums(const ConvLif& a, const Lists& s, int64_t block, void* sums) {
    const int64_t rows = a.kernel * a.kernel * a.lanes_in + 1;
    for (int64_t c = 0; c < s.chunks; c++) {
        const int64_t first_row = c * chunk_words(a) * 64;
        const auto* weight = (const typename Sums::Weight*)a.weight;
        weight += (block * rows + first_row) * BLOCK;
        add_rows<BLOCK, Sums>(weight, zero_row(a, first_row), s, c, sums);
    }
}

template <int BLOCK, int64_t WEIGHTS>
void tile_of_blocks(const ConvLif& a, const ConvTile& tile, void* scratch) {
    const int64_t pixels = tile.end - tile.begin, runs = runs_of(a, pixels);
    const int64_t words = neighbour_words(a), digits = digits_of(a);
    int64_t* spikes = (int64_t*)scratch;
    int32_t* sums = (int32_t*)(spikes + (a.T + 7) / 8 * 8);  // or floats
    void* input = sums + (a.spikes ? digits * runs * BLOCK : 0);
    memset(spikes, 0, (size_t)a.T * sizeof *spikes);
    Lists lists = {};
    if (a.spikes && WEIGHTS < kTiles) {
        lists = lay_out_lists(a, pixels, input);
        build_lists(a, tile, lists);
    } else if (a.spikes) {
        spikes_to_bytes(a, tile, (int8_t*)input);
    }
    for (int64_t block = tile.first_block; block < tile.last_block; block++) {
        if (a.spikes && WEIGHTS == kFloatRows)
            event_sums<BLOCK, FloatSums<BLOCK>>(a, lists, block, sums);
        if (a.spikes && WEIGHTS == kByteRows)
            event_sums<BLOCK, ByteSums<BLOCK>>(a, lists, block, sums);
        if (a.spikes && WEIGHTS >= kTiles) {
            const int64_t size = BLOCK / 16 * words * digits * kTileBytes;
            const int8_t* tiles = (const int8_t*)a.weight + block * size;
            (tile.product ? tile.product : product)(
                {(const int8_t*)input, tiles, sums, runs, words, BLOCK, digits});
        }
        finish<BLOCK, WEIGHTS>(a, tile, sums, spikes, block);
    }
    for (int64_t t = 0; t < a.T; t++)
        __atomic_fetch_add(a.counts + t, spikes[t], __ATOMIC_RELAXED);
}

template <int BLOCK>
void tile_of_blocks(const ConvLif& a, const ConvTile& tile, void* scratch) {
    switch (a.weights) {
        case kByteRows: return tile_of_blocks<BLOCK, kByteRows>(a, tile, scratch);
        case kTiles: return tile_of_blocks<BLOCK, kTiles>(a, tile, scratch);
        case kTiles3: return tile_of_blocks<BLOCK, kTiles3>(a, tile, scratch);
        default: return tile_of_blocks<BLOCK, kFloatRows>(a, tile, scratch);
    }
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
