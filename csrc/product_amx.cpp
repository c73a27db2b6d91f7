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

// One to four columns of 16 sums that read the same spikes: distances between them and between the
// words of one, in bytes of weights and in sums.
struct Columns {
    int64_t weights, words, sums;
};

// Tiles 0-3 are sums, 4 and 5 weights, 6 spikes.
template <int N>
void rows16(const int8_t* spikes, int64_t row, const int8_t* weights, int32_t* sums,
            int64_t sum_row, const Columns& of, int64_t words, bool first) {
    const int64_t bytes = sum_row * 4;
    if (first) {
        _tile_zero(0);
        if (N > 1) _tile_zero(1);
        if (N > 2) _tile_zero(2);
        if (N > 3) _tile_zero(3);
    } else {
        _tile_loadd(0, sums, bytes);
        if (N > 1) _tile_loadd(1, sums + of.sums, bytes);
        if (N > 2) _tile_loadd(2, sums + 2 * of.sums, bytes);
        if (N > 3) _tile_loadd(3, sums + 3 * of.sums, bytes);
    }
    for (int64_t k = 0; k < words; k++, spikes += 64, weights += of.words) {
        _tile_loadd(6, spikes, row);
        _tile_loadd(4, weights, 64);
        _tile_dpbssd(0, 6, 4);
        if (N > 1) {
            _tile_loadd(5, weights + of.weights, 64);
            _tile_dpbssd(1, 6, 5);
        }
        if (N > 2) {
            _tile_loadd(4, weights + 2 * of.weights, 64);
            _tile_dpbssd(2, 6, 4);
        }
        if (N > 3) {
            _tile_loadd(5, weights + 3 * of.weights, 64);
            _tile_dpbssd(3, 6, 5);
        }
    }
    _tile_stored(0, sums, bytes);
    if (N > 1) _tile_stored(1, sums + of.sums, bytes);
    if (N > 2) _tile_stored(2, sums + 2 * of.sums, bytes);
    if (N > 3) _tile_stored(3, sums + 3 * of.sums, bytes);
}

template <int N>
void all_runs(const ProductArgs& a, const int8_t* tiles, int32_t* sums, const Columns& of) {
    for (int64_t first = 0; first < a.words; first += kChunk) {
        const int64_t words = a.words - first < kChunk ? a.words - first : kChunk;
        for (int64_t run = 0; run < a.runs; run += kTileRows)
            rows16<N>(a.spikes + (run * a.words + first) * 64, a.words * 64,
                      tiles + first * of.words, sums + run * a.block, a.block, of, words,
                      first == 0);
    }
}

}  // namespace

bool ready() {
    static const bool is = ask();
    return is;
}

void product(const ProductArgs& a) {
    _tile_loadconfig(&config);
    const int64_t columns = a.block / 16;
    if (a.digits == 3) {
        for (int64_t n = 0; n < columns; n++)
            all_runs<3>(a, a.tiles + n * a.words * 3 * kTileBytes, a.sums + n * 16,
                        {kTileBytes, 3 * kTileBytes, a.runs * a.block});
    } else {
        const Columns of = {a.words * kTileBytes, kTileBytes, 16};
        if (columns == 1) all_runs<1>(a, a.tiles, a.sums, of);
        if (columns == 2) all_runs<2>(a, a.tiles, a.sums, of);
        if (columns == 4) all_runs<4>(a, a.tiles, a.sums, of);
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
