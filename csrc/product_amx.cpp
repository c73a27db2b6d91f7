// The product on AMX: 16 runs by 16 channels by 64 inputs an instruction.
#include "product.h"

#if defined(__AMX_INT8__) && defined(__linux__)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace amx {
namespace {

constexpr int kAskPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA

bool ask() {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    const unsigned tile = 1u << 24, int8 = 1u << 25;
    return d & tile && d & int8 && syscall(SYS_arch_prctl, kAskPermission, kTileData) == 0;
}

struct Config {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
// Static, because GCC 12 does not know that the instruction reads all of it.
alignas(64) const Config config = {
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16}};

// Weights of so many words stay in the first-level cache while all runs meet them.
constexpr int64_t kChunk = 9;

// Lines of the next chunk, which a third-level cache takes too long to give.
void prefetch(const int8_t* weights, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++) _mm_prefetch((const char*)weights + i * 64, _MM_HINT_T1);
}

// Sums of 16 runs in 1 to 4 columns. Tiles 0-3 are sums, 4 and 5 weights, 6 spikes.
template <int N>
void rows16(const int8_t* spikes, const int8_t* weights, int32_t* sums, int64_t row,
            int64_t column, int64_t words, bool first) {
    const int64_t bytes = row * 4;
    if (first) {
        _tile_zero(0);
        if (N > 1) _tile_zero(1);
        if (N > 2) _tile_zero(2);
        if (N > 3) _tile_zero(3);
    } else {
        _tile_loadd(0, sums, bytes);
        if (N > 1) _tile_loadd(1, sums + column, bytes);
        if (N > 2) _tile_loadd(2, sums + 2 * column, bytes);
        if (N > 3) _tile_loadd(3, sums + 3 * column, bytes);
    }
    for (int64_t k = 0; k < words; k++, spikes += kTileBytes, weights += N * kTileBytes) {
        _tile_loadd(6, spikes, 64);
        _tile_loadd(4, weights, 64);
        _tile_dpbssd(0, 6, 4);
        if (N > 1) {
            _tile_loadd(5, weights + kTileBytes, 64);
            _tile_dpbssd(1, 6, 5);
        }
        if (N > 2) {
            _tile_loadd(4, weights + 2 * kTileBytes, 64);
            _tile_dpbssd(2, 6, 4);
        }
        if (N > 3) {
            _tile_loadd(5, weights + 3 * kTileBytes, 64);
            _tile_dpbssd(3, 6, 5);
        }
    }
    _tile_stored(0, sums, bytes);
    if (N > 1) _tile_stored(1, sums + column, bytes);
    if (N > 2) _tile_stored(2, sums + 2 * column, bytes);
    if (N > 3) _tile_stored(3, sums + 3 * column, bytes);
}

template <int N>
void all_groups(const ProductArgs& a) {
    const int64_t column = a.digits == 3 ? a.runs * a.block : 16;
    const int8_t* tiles = a.tiles;
    for (int64_t group = 0; group < groups_of(a); group++)
        for (int64_t first = 0; first < a.words; first += kChunk) {
            const int64_t words = a.words - first < kChunk ? a.words - first : kChunk;
            const int8_t* next = tiles + words * N * kTileBytes;
            const int64_t lines = a.words > kChunk ? words * N * kTileBytes / 64 : 0;
            for (int64_t run = 0; run < a.runs; run += 16) {
                prefetch(next, lines * run / a.runs, lines * (run + 16) / a.runs);
                rows16<N>(a.spikes + (run / 16 * a.words + first) * kTileBytes, tiles,
                          a.sums + group * 16 + run * a.block, a.block, column, words, first == 0);
            }
            tiles = next;
        }
}

}  // namespace

bool ready() {
    static const bool is = ask();
    return is;
}

void product(const ProductArgs& a) {
    _tile_loadconfig(&config);
    switch (columns_of(a)) {
        case 1: all_groups<1>(a); break;
        case 2: all_groups<2>(a); break;
        case 3: all_groups<3>(a); break;
        default: all_groups<4>(a);
    }
    _tile_release();
}

}  // namespace amx

#else

namespace amx {
bool ready() { return false; }
void product(const ProductArgs&) {}
}  // namespace amx

#endif
