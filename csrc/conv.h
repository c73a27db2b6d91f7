// A convolution of spikes with what follows it: batch norm, shortcut, LIF over all steps.
//
// Channels are padded to `lanes`: 16, 32 or a multiple of 64. Spikes are bits, one row of words of
// 64 a pixel, in pictures with a border of one silent pixel: (T, B, H + 2, W + 2, words). Potentials
// are float (T, B, H, W, lanes).
#pragma once

#include <cstdint>

#include "product.h"

// How the weights lie, and so what runs. Event-driven: rows that spikes select are added. Tables:
// sums of rows that four spikes select are added, whichever they are. Dense: spikes become bytes,
// and a product of matrices of bytes gives exact sums.
enum Weights : int64_t {
    kFloatRows = 0,    // (lanes_out / block, kernel * kernel * lanes_in + 1, block), last row 0
    kByteRows = 1,     // the same in int8
    kFloatTables = 2,  // (kernel * kernel * 4, 16, 16), for 16 lanes in and out: see tables.inl
    kShortTables = 3,  // the same in int16
    kTiles = 4,        // int8, see product.h: one digit a weight
    kTiles3 = 5,       // three digits a weight, 24 bits of fixed point
};

// Mirrored by `ConvLif` in msr_zoo/kernels/native_conv.py.
struct ConvLif {
    const uint64_t* spikes;  // null: `dense` holds the convolved values already
    const void* weight;
    const float* dense;  // potentials' layout
    const float* scale;  // batch norm, one a lane; null: none
    const float* shift;
    const float* residual;  // potentials' layout; null: none
    const float* residual_scale;
    const float* residual_shift;
    // Null: not kept. (T or 1, B, (OH + 1) / 2, (OW + 1) / 2, lanes) with a potential_stride of 2,
    // the pixels that a strided convolution reads. With one of 1 it may be `residual` itself.
    float* potential;
    uint64_t* fired;
    int64_t* counts;  // spikes of each step, added to
    int64_t T, B, H, W, lanes_in, OH, OW, lanes_out;
    // Floats from one step to the next; 0: constant in time.
    int64_t dense_step, residual_step, potential_step;
    int64_t potential_stride;  // 1 or 2
    int64_t kernel, stride;
    int64_t weights;  // Weights
    float decay, threshold;
};

inline int64_t block_of(int64_t lanes) { return lanes < 64 ? lanes : 64; }
inline int64_t words_of(int64_t lanes) { return (lanes + 63) / 64; }
inline int64_t neighbour_words(const ConvLif& a) {
    return words_of(a.kernel * a.kernel * a.lanes_in);
}
inline bool is_dense(const ConvLif& a) { return a.weights >= kTiles; }
inline bool is_tables(const ConvLif& a) {
    return a.weights == kFloatTables || a.weights == kShortTables;
}
// Columns of 16 dense sums that are taken together: the three digits of 16 channels, or up to 32
// channels of one digit.
inline int64_t columns_of(const ConvLif& a) {
    return a.weights == kTiles3 ? 3 : a.lanes_out < 32 ? 1 : 2;
}
inline int64_t lanes_of(const ConvLif& a) { return a.weights == kTiles3 ? 16 : 16 * columns_of(a); }

// What one task works on: output pixels [begin, end) of all B pictures, blocks of output channels.
struct ConvTile {
    int64_t begin, end, first_block, last_block;
    const Product* product;  // for tiles of weights; null: that of the instruction set
};

// Dense sums are taken of so many pixels at a time, so that they stay in the first-level cache
// until the LIF has read them; times any number of steps, that is a multiple of kTileRows runs.
constexpr int64_t kStrip = 32;

// A tile's own counts of spikes stand first in its scratch memory.
inline int64_t count_bytes(const ConvLif& a) { return (a.T * 8 + 63) / 64 * 64; }

// Bytes of scratch memory for a tile of `pixels`.
int64_t conv_scratch(const ConvLif&, int64_t pixels);

// Words of rows that a list may name before the next list starts: so many weights that they stay in
// the first-level cache, or near it, while all pixels and steps of a tile add them. Bytes are added
// more slowly than they are loaded, and gain from longer lists.
inline int64_t chunk_words(const ConvLif& a) {
    const int64_t bytes = a.weights == kFloatRows ? 4 : 1, block = block_of(a.lanes_out);
    const int64_t kibibytes = block * bytes < 256 ? 48 : 32;
    return kibibytes * 1024 / (block * bytes * 64);
}

// A list is written in whole vectors, and filled up behind its end: so many entries may be touched.
constexpr int64_t kFill = 32;
constexpr int64_t kSlack = 2 * kFill;

// Pixels times steps of a tile, rounded up to what its additions or products go by.
inline int64_t runs_of(const ConvLif& a, int64_t pixels) {
    const int64_t group = is_dense(a) ? kTileRows : 4;
    return (pixels * a.T + group - 1) / group * group;
}

namespace portable {
void conv_tile(const ConvLif&, const ConvTile&, void* scratch);
}
namespace avx2 {
void conv_tile(const ConvLif&, const ConvTile&, void* scratch);
}
namespace avx512 {
void conv_tile(const ConvLif&, const ConvTile&, void* scratch);
}
namespace avx512vbmi2 {
void conv_tile(const ConvLif&, const ConvTile&, void* scratch);
}
