// The product on AMX: 16 runs by 16 channels by 64 inputs an instruction.
//
// Spikes become bytes right before they are used, in a buffer that never leaves the first-level
// cache, so the second is left to the weights; the vector units do it while the tiles multiply.
#include "product.h"

#if defined(__AMX_INT8__) && defined(__AVX512BW__) && defined(__linux__)

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
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

// 64 bits of 16 runs to bytes of 0 and 1.
inline void expand(const uint64_t* bits, int8_t* bytes) {
    const __m512i one = _mm512_set1_epi8(1);
    for (int i = 0; i < 16; i++)
        _mm512_store_si512(bytes + i * 64, _mm512_maskz_mov_epi8((__mmask64)bits[i], one));
}

// Asks for a few lines at a time, between the products: what waits for the third-level cache holds
// up what the products read.
struct Ahead {
    const char *at, *end;
    int64_t lines;  // at a step

    void step() {
        for (int64_t i = 0; i < lines && at < end; i++, at += 64) _mm_prefetch(at, _MM_HINT_T1);
    }
};

// Where the products of a pair of blocks begin, and which way they go through the words.
struct Walk {
    const uint64_t* spikes;  // of the first block
    const int8_t* tiles;
    int64_t words, direction;  // 1 or -1
};

// One or two blocks of 16 runs in N columns. Tiles 0-2 are the first block's sums, 3-5 the second's,
// 6 spikes, 7 weights. Rows of sums are `row` bytes apart, columns `column` numbers.
template <int N, bool TWO>
inline void blocks(const Walk& walk, int32_t* sums, int64_t row, int64_t column, Ahead& ahead) {
    alignas(64) int8_t bytes[2][2][kTileBytes];
    const int64_t step = walk.direction * 16, tile_step = walk.direction * N * kTileBytes;
    const uint64_t *first = walk.spikes, *second = first + walk.words * 16;
    const int8_t* tiles = walk.tiles;
    expand(first, bytes[0][0]);
    if (TWO) expand(second, bytes[0][1]);
    _tile_zero(0);
    if (N > 1) _tile_zero(1);
    if (N > 2) _tile_zero(2);
    if (TWO) _tile_zero(3);
    if (TWO && N > 1) _tile_zero(4);
    if (TWO && N > 2) _tile_zero(5);
    for (int64_t k = 0; k < walk.words; k++, tiles += tile_step) {
        if (k + 1 < walk.words) {
            expand(first += step, bytes[(k + 1) % 2][0]);
            if (TWO) expand(second += step, bytes[(k + 1) % 2][1]);
        }
        _tile_loadd(6, bytes[k % 2][0], 64);
        _tile_loadd(7, tiles, 64);
        _tile_dpbssd(0, 6, 7);
        ahead.step();
        if (N > 1) {
            _tile_loadd(7, tiles + kTileBytes, 64);
            _tile_dpbssd(1, 6, 7);
        }
        if (N > 2) {
            _tile_loadd(7, tiles + 2 * kTileBytes, 64);
            _tile_dpbssd(2, 6, 7);
        }
        if (!TWO) continue;
        // The last column's weights are still there.
        _tile_loadd(6, bytes[k % 2][1], 64);
        ahead.step();
        if (N > 2) {
            _tile_dpbssd(5, 6, 7);
            _tile_loadd(7, tiles + kTileBytes, 64);
        }
        if (N > 1) {
            _tile_dpbssd(4, 6, 7);
            _tile_loadd(7, tiles, 64);
        }
        _tile_dpbssd(3, 6, 7);
    }
    _tile_stored(0, sums, row);
    if (N > 1) _tile_stored(1, sums + column, row);
    if (N > 2) _tile_stored(2, sums + 2 * column, row);
    sums += 4 * row;
    if (TWO) _tile_stored(3, sums, row);
    if (TWO && N > 1) _tile_stored(4, sums + column, row);
    if (TWO && N > 2) _tile_stored(5, sums + 2 * column, row);
}

// What sums of three digits (3, 32 runs, 16) are worth.
inline void join(const int32_t* digits, float* out, int64_t runs) {
    for (int64_t i = 0; i < runs * 16; i += 16) {
        const __m512 low = _mm512_cvtepi32_ps(_mm512_load_si512(digits + i));
        const __m512 middle = _mm512_cvtepi32_ps(_mm512_load_si512(digits + 512 + i));
        const __m512 high = _mm512_cvtepi32_ps(_mm512_load_si512(digits + 1024 + i));
        const __m512 two = _mm512_add_ps(low, _mm512_mul_ps(middle, _mm512_set1_ps(256.0f)));
        const __m512 all = _mm512_add_ps(two, _mm512_mul_ps(high, _mm512_set1_ps(65536.0f)));
        _mm512_storeu_ps(out + i, all);
    }
}

template <int N>
void sums_of(const ProductArgs& a) {
    alignas(64) int32_t digits[3 * 32 * 16];
    const int64_t steps = a.runs / 16 * a.words;
    const char* next = (const char*)a.next;
    Ahead ahead = {next, next + a.next_lines * 64, (a.next_lines + steps - 1) / steps};
    for (int64_t run = 0; run < a.runs; run += 32) {
        // There and back, so that the weights at the turn are found in the first-level cache.
        const bool back = (a.turn + run / 32) % 2, two = run + 16 < a.runs;
        const int64_t start = back ? a.words - 1 : 0;
        const Walk walk = {a.spikes + run * a.words + start * 16,
                           a.tiles + start * N * kTileBytes, a.words, back ? -1 : 1};
        int32_t* to = N == 3 ? digits : (int32_t*)a.sums + run * N * 16;
        const int64_t row = N == 3 ? 64 : N * 64, column = N == 3 ? 512 : 16;
        two ? blocks<N, true>(walk, to, row, column, ahead)
            : blocks<N, false>(walk, to, row, column, ahead);
        if (N == 3) join(digits, (float*)a.sums + run * 16, two ? 32 : 16);
    }
}

void start() { _tile_loadconfig(&config); }

void stop() { _tile_release(); }

void sums(const ProductArgs& a) {
    switch (a.columns) {
        case 1: return sums_of<1>(a);
        case 2: return sums_of<2>(a);
        default: return sums_of<3>(a);
    }
}

}  // namespace

bool ready() {
    static const bool is = ask();
    return is;
}

extern const Product product = {start, sums, stop};

}  // namespace amx

#else

namespace amx {
bool ready() { return false; }
extern const Product product = {};
}  // namespace amx

#endif
