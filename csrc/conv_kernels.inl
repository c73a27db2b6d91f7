// One tile of a convolution of spikes, compiled once per instruction set (see isa_*.cpp).
#include "conv.h"
#include "dense.inl"
#include "events.inl"
#include "tables.inl"
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

// What follows a convolution, as far as it is known before a pixel is reached.
enum Then : int { kNorm = 1, kResidual = 2, kPotential = 4 };

// LANES bits of a word of 64, from `lane` on.
template <int LANES>
inline void put(uint64_t fired, uint64_t* word, int64_t lane) {
    char* to = (char*)word;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    fired <<= 64 - LANES;
    to += (64 - LANES - lane % 64) / 8;
#else
    to += lane % 64 / 8;
#endif
    memcpy(to, &fired, LANES / 8);
}

// Batch norm, shortcut and LIF for LANES channels from `lane` on of some pixels, step after step;
// adds each step's number of spikes.
template <int LANES, int THEN, class Value>
void finish(const ConvLif& call, int64_t begin, int64_t end, int64_t lane,
            const Values<Value>& convolved, int64_t* spikes) {
    constexpr int N = LANES / W;
    // Copies: a vector store may alias everything that is reached through a reference.
    const ConvLif a = call;
    const Values<Value> values = convolved;
    const Vec decay = Vec::all(a.decay), threshold = Vec::all(a.threshold);
    Vec scale[N], shift[N], shortcut_scale[N], shortcut_shift[N];
    const bool normed = THEN & kResidual && a.residual_scale;
    for (int r = 0; r < N; r++) {
        if (THEN & kNorm) {
            scale[r] = Vec::load(a.scale + lane + r * W);
            shift[r] = Vec::load(a.shift + lane + r * W);
        }
        if (normed) {
            shortcut_scale[r] = Vec::load(a.residual_scale + lane + r * W);
            shortcut_shift[r] = Vec::load(a.residual_shift + lane + r * W);
        }
    }
    const int64_t words = words_of(a.lanes_out);
    const int64_t picture = (a.OH + 2) * (a.OW + 2) * words;
    const int64_t sparse = a.potential_stride == 2;
    const int64_t rows = (a.OH + sparse) >> sparse, row = (a.OW + sparse) >> sparse;
    Pixel at(a, begin);
    for (int64_t p = begin; p < end; p++, at.next(a)) {
        const int64_t pixel = p * a.lanes_out + lane;
        const Value* value = values.at + (p - begin) * values.pixel;
        const float* residual = THEN & kResidual ? a.residual + pixel : nullptr;
        const bool kept = THEN & kPotential && !((at.x | at.y) & sparse);
        const int64_t to = (at.b * rows + (at.y >> sparse)) * row + (at.x >> sparse);
        float* potential = kept ? a.potential + to * a.lanes_out + lane : nullptr;
        uint64_t* word =
            a.fired + at.b * picture + ((at.y + 1) * (a.OW + 2) + at.x + 1) * words + lane / 64;
        Vec u[N];
        for (int r = 0; r < N; r++) u[r] = Vec::all(0.0f);
        for (int64_t t = 0; t < a.T; t++) {
            uint64_t fired = 0;
            for (int r = 0; r < N; r++) {
                Vec y = Vec::load(value + r * W);
                if (THEN & kNorm) y = y * scale[r] + shift[r];
                if (THEN & kResidual) {
                    Vec shortcut = Vec::load(residual + r * W);
                    if (normed) shortcut = shortcut * shortcut_scale[r] + shortcut_shift[r];
                    y = y + shortcut;
                }
                if (THEN & kPotential && kept) y.store(potential + r * W);
                u[r] = decay * u[r] + y;
                const auto fires = u[r] > threshold;
                fired |= (uint64_t)Vec::bits(fires) << r * W;
                u[r] = u[r].where_not(fires);
            }
            put<LANES>(fired, word, lane);
            spikes[t] += __builtin_popcountll(fired);
            value += values.step;
            word += a.B * picture;
            if (THEN & kResidual) residual += a.residual_step;
            if (THEN & kPotential && kept) potential += a.potential_step;
        }
    }
}

template <int LANES, class Value>
void finish(const ConvLif& a, int64_t begin, int64_t end, int64_t lane,
            const Values<Value>& values, int64_t* spikes) {
    switch ((a.scale ? kNorm : 0) | (a.residual ? kResidual : 0) | (a.potential ? kPotential : 0)) {
        case 0: return finish<LANES, 0>(a, begin, end, lane, values, spikes);
        case 1: return finish<LANES, 1>(a, begin, end, lane, values, spikes);
        case 2: return finish<LANES, 2>(a, begin, end, lane, values, spikes);
        case 3: return finish<LANES, 3>(a, begin, end, lane, values, spikes);
        case 4: return finish<LANES, 4>(a, begin, end, lane, values, spikes);
        case 5: return finish<LANES, 5>(a, begin, end, lane, values, spikes);
        case 6: return finish<LANES, 6>(a, begin, end, lane, values, spikes);
        default: return finish<LANES, 7>(a, begin, end, lane, values, spikes);
    }
}

// Dense sums and what follows them, of a strip of pixels at a time.
template <int LANES, class Value>
void dense_blocks(const ConvLif& a, const ConvTile& tile, void* memory, int64_t* spikes) {
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
        // Behind the first tile, weights are near.
        const int64_t lines = lane + LANES < last && !tile.begin ? group / 64 : 0;
        for (int64_t p = 0; p < pixels; p += kStrip) {
            const int64_t end = p + kStrip < pixels ? p + kStrip : pixels;
            const int64_t runs = runs_of(a, end - p), line = lines * p / pixels;
            by.sums({bits + p * a.T * words, tiles, sums, runs, words, columns, turn,
                     tiles + group + line * 64, lines * end / pixels - line});
            turn += (runs + 31) / 32;
            finish<LANES>(a, tile.begin + p, tile.begin + end, lane,
                          Values<Value>{sums, LANES, a.T * LANES}, spikes);
        }
    }
    by.stop();
}

template <int BLOCK, class Sums>
void event_blocks(const ConvLif& a, const ConvTile& tile, void* memory, int64_t* spikes) {
    using Sum = typename Sums::Sum;
    const int64_t pixels = tile.end - tile.begin;
    auto* sums = (Sum*)memory;
    const Lists lists = lay_out_lists(a, pixels, sums + runs_of(a, pixels) * BLOCK);
    build_lists(a, tile, lists);
    for (int64_t block = tile.first_block; block < tile.last_block; block++) {
        for (int64_t chunk = 0; chunk < lists.chunks; chunk++)
            add_rows<BLOCK, Sums>(a, lists, block, chunk, sums);
        finish<BLOCK>(a, tile.begin, tile.end, block * BLOCK,
                      Values<Sum>{sums, BLOCK, a.T * BLOCK}, spikes);
    }
}

template <class Tables>
void narrow_block(const ConvLif& a, const ConvTile& tile, void* memory, int64_t* spikes) {
    auto* sums = (typename Tables::Sum*)memory;
    add_tables<Tables>(a, tile, sums);
    finish<kNarrow>(a, tile.begin, tile.end, 0,
                    Values<typename Tables::Sum>{sums, kNarrow, a.T * kNarrow}, spikes);
}

template <int BLOCK>
void tile_of_blocks(const ConvLif& a, const ConvTile& tile, void* memory, int64_t* spikes) {
    constexpr int PAIR = BLOCK < 32 ? BLOCK : 32;
    if (!a.spikes) {
        for (int64_t block = tile.first_block; block < tile.last_block; block++) {
            const float* dense = a.dense + tile.begin * a.lanes_out + block * BLOCK;
            finish<BLOCK>(a, tile.begin, tile.end, block * BLOCK,
                          Values<float>{dense, a.dense_step, a.lanes_out}, spikes);
        }
    } else if (a.weights == kFloatRows) {
        event_blocks<BLOCK, FloatSums<BLOCK>>(a, tile, memory, spikes);
    } else if (a.weights == kByteRows) {
        event_blocks<BLOCK, ByteSums<BLOCK>>(a, tile, memory, spikes);
    } else if (a.weights == kFloatTables) {
        narrow_block<FloatTables>(a, tile, memory, spikes);
    } else if (a.weights == kShortTables) {
        narrow_block<ShortTables>(a, tile, memory, spikes);
    } else if (a.weights == kTiles) {
        dense_blocks<PAIR, int32_t>(a, tile, memory, spikes);
    } else {
        dense_blocks<16, float>(a, tile, memory, spikes);
    }
}

}  // namespace

void conv_tile(const ConvLif& a, const ConvTile& tile, void* scratch) {
    auto* spikes = (int64_t*)scratch;
    void* memory = (char*)scratch + count_bytes(a);
    memset(spikes, 0, (size_t)a.T * sizeof *spikes);
    switch (block_of(a.lanes_out)) {
        case 16: tile_of_blocks<16>(a, tile, memory, spikes); break;
        case 32: tile_of_blocks<32>(a, tile, memory, spikes); break;
        default: tile_of_blocks<64>(a, tile, memory, spikes);
    }
    for (int64_t t = 0; t < a.T; t++) __atomic_fetch_add(a.counts + t, spikes[t], __ATOMIC_RELAXED);
}

}  // namespace ISA
