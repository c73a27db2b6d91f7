// One tile of a convolution of spikes, compiled once per instruction set (see isa_*.cpp).
#include "conv.h"
#include "dense.inl"
#include "events.inl"
#include "vec.h"

namespace ISA {
namespace {

// Convolved values, floats or sums of integers: where they begin, and from one step or pixel to the
// next.
template <class Value>
struct Values {
    const Value* at;
    int64_t step, pixel;
};

// Batch norm, shortcut and LIF for LANES channels from `lane` on of some pixels, step after step.
template <int LANES, class Value>
void finish(const ConvLif& call, int64_t begin, int64_t end, int64_t lane,
            const Values<Value>& convolved, int64_t* spikes) {
    const ConvLif a = call;
    const Values<Value> values = convolved;
    const Vec decay = Vec::all(a.decay), threshold = Vec::all(a.threshold);
    const int64_t words = words_of(a.lanes_out);
    const int64_t picture = (a.OH + 2) * (a.OW + 2) * words;
    const int64_t potential_step = a.B * a.OH * a.OW * a.lanes_out;
    Pixel at(a, begin);
    for (int64_t p = begin; p < end; p++, at.next(a)) {
        const int64_t pixel = p * a.lanes_out + lane;
        const Value* value = values.at + (p - begin) * values.pixel;
        uint64_t* word =
            a.fired + at.b * picture + ((at.y + 1) * (a.OW + 2) + at.x + 1) * words + lane / 64;
        Vec u[LANES / W];
        for (int64_t t = 0; t < a.T; t++) {
            uint64_t fired = 0;
            for (int r = 0; r < LANES / W; r++) {
                const int64_t i = r * W;
                Vec y = Vec::load(value + t * values.step + i);
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
            // The first lanes of a word are written first.
            uint64_t* to = word + t * a.B * picture;
            *to = lane % 64 ? *to | fired << lane % 64 : fired;
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

// Dense sums and what follows them, of a strip of pixels at a time.
template <int LANES, class Value>
void dense_blocks(const ConvLif& a, const ConvTile& tile, int64_t* spikes, void* memory) {
    const int64_t pixels = tile.end - tile.begin, words = neighbour_words(a);
    const int64_t columns = columns_of(a), group = words * columns * kTileBytes;
    const int64_t block = block_of(a.lanes_out), last = tile.last_block * block;
    const Product& by = tile.product ? *tile.product : product;
    auto* sums = (Value*)memory;
    auto* bits = (uint64_t*)(sums + kStrip * a.T * LANES);
    lay_out_bits(a, tile, bits);
    by.start();
    int64_t turn = 0;
    for (int64_t lane = tile.first_block * block; lane < last; lane += LANES) {
        const int8_t* tiles = (const int8_t*)a.weight + lane / LANES * group;
        const int64_t lines = lane + LANES < last ? group / 64 : 0;
        for (int64_t p = 0; p < pixels; p += kStrip) {
            const int64_t end = p + kStrip < pixels ? p + kStrip : pixels;
            const int64_t runs = runs_of(a, end - p), line = lines * p / pixels;
            by.sums({bits + p * a.T * words, tiles, sums, runs, words, columns, turn,
                     tiles + group + line * 64, lines * end / pixels - line});
            turn += (runs + 31) / 32;
            finish<LANES, Value>(a, tile.begin + p, tile.begin + end, lane,
                                 {sums, LANES, a.T * LANES}, spikes);
        }
    }
    by.stop();
}

template <int BLOCK, class Sums>
void event_blocks(const ConvLif& a, const ConvTile& tile, int64_t* spikes, void* memory) {
    using Sum = typename Sums::Sum;
    const int64_t pixels = tile.end - tile.begin;
    auto* sums = (Sum*)memory;
    const Lists lists = lay_out_lists(a, pixels, sums + runs_of(a, pixels) * BLOCK);
    build_lists(a, tile, lists);
    for (int64_t block = tile.first_block; block < tile.last_block; block++) {
        event_sums<BLOCK, Sums>(a, lists, block, sums);
        finish<BLOCK, Sum>(a, tile.begin, tile.end, block * BLOCK, {sums, BLOCK, a.T * BLOCK},
                           spikes);
    }
}

template <int BLOCK>
void tile_of_blocks(const ConvLif& a, const ConvTile& tile, void* scratch) {
    constexpr int PAIR = BLOCK < 32 ? BLOCK : 32;
    int64_t* spikes = (int64_t*)scratch;
    void* memory = spikes + (a.T + 7) / 8 * 8;
    memset(spikes, 0, (size_t)a.T * sizeof *spikes);
    if (!a.spikes) {
        for (int64_t block = tile.first_block; block < tile.last_block; block++) {
            const float* dense = a.dense + tile.begin * a.lanes_out + block * BLOCK;
            finish<BLOCK, float>(a, tile.begin, tile.end, block * BLOCK,
                                 {dense, a.dense_step, a.lanes_out}, spikes);
        }
    } else if (a.weights == kFloatRows) {
        event_blocks<BLOCK, FloatSums<BLOCK>>(a, tile, spikes, memory);
    } else if (a.weights == kByteRows) {
        event_blocks<BLOCK, ByteSums<BLOCK>>(a, tile, spikes, memory);
    } else if (a.weights == kTiles) {
        dense_blocks<PAIR, int32_t>(a, tile, spikes, memory);
    } else {
        dense_blocks<16, float>(a, tile, spikes, memory);
    }
    for (int64_t t = 0; t < a.T; t++)
        __atomic_fetch_add(a.counts + t, spikes[t], __ATOMIC_RELAXED);
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
