// The C interface of the convolution of spikes: tiles, threads and scratch memory.
#include "conv.h"

#include <stdlib.h>  // posix_memalign

#include <memory>

#include "isa.h"

#define API extern "C" __attribute__((visibility("default")))

namespace {

using Tile = void (*)(const ConvLif&, const ConvTile&, void*);

Tile conv_tile() {
#if defined(MSR_X86)
    if (current_isa() >= kAvx512Vbmi2) return avx512vbmi2::conv_tile;
    if (current_isa() == kAvx512) return avx512::conv_tile;
    if (current_isa() == kAvx2) return avx2::conv_tile;
#endif
    return portable::conv_tile;
}

// Pixels times steps of a tile: enough to pay for loading a chunk of weights into the first-level
// cache, few enough that their sums and lists stay in the second.
constexpr int64_t kRuns = 304;

// Below this many outputs, waking a second thread costs more than it does.
constexpr int64_t kWorthThreads = 16384;

struct Free {
    void operator()(void* p) const { free(p); }
};

// Kept from call to call by each thread; grows only.
void* scratch_of_thread(int64_t bytes) {
    static thread_local std::unique_ptr<void, Free> memory;
    static thread_local int64_t size = 0;
    if (bytes > size) {
        // Not std::aligned_alloc, which macOS before 10.15 lacks.
        void* grown = nullptr;
        memory.reset();
        if (posix_memalign(&grown, 64, (size_t)bytes)) grown = nullptr;
        memory.reset(grown);
        size = grown ? bytes : 0;
    }
    return memory.get();
}

}  // namespace

int64_t conv_scratch(const ConvLif& a, int64_t pixels) {
    if (!a.spikes) return count_bytes(a);
    const int64_t words = neighbour_words(a), runs = runs_of(a, pixels);
    if (is_dense(a)) return count_bytes(a) + kStrip * a.T * lanes_of(a) * 4 + runs * words * 8;
    const int64_t sums = count_bytes(a) + runs * block_of(a.lanes_out) * 4;
    if (is_tables(a)) return sums;
    const int64_t chunks = (words + chunk_words(a) - 1) / chunk_words(a);
    const int64_t list = (chunk_words(a) * 64 + kSlack) * 2 + 4;
    return sums + runs * chunks * list;
}

// Gives 0, or 1 where there is no memory.
API int msr_conv_lif(const ConvLif* call, int threads) {
    const ConvLif a = *call;
    const Tile run = conv_tile();
    const Product* product = current_isa() == kAmx ? &amx::product : nullptr;
    if (a.T * a.B * a.OH * a.OW * a.lanes_out < kWorthThreads) threads = 1;
    const int64_t pixels = a.B * a.OH * a.OW, blocks = a.lanes_out / block_of(a.lanes_out);
    const int64_t most = kRuns / a.T > 1 ? kRuns / a.T : 1;
    int64_t tiles = (pixels + most - 1) / most, parts = 1;
    if (tiles <= threads && blocks >= threads) {
        // Few pixels and many channels: threads share the weights out, so each reads its own only.
        parts = threads;
    } else {
        tiles = (tiles + threads - 1) / threads * threads;
    }
    const int64_t size = (pixels + tiles - 1) / tiles;
    int failed = 0;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1) \
    reduction(| : failed)
    for (int64_t task = 0; task < tiles * parts; task++) {
        const int64_t begin = task / parts * size, part = task % parts;
        const int64_t end = begin + size < pixels ? begin + size : pixels;
        if (begin >= end) continue;
        const int64_t bytes = conv_scratch(a, size);
        void* scratch = scratch_of_thread(bytes);
        if (!scratch) {
            failed |= 1;
            continue;
        }
        run(a, {begin, end, blocks * part / parts, blocks * (part + 1) / parts, product}, scratch);
    }
    return failed;
}

// Spikes of each channel: pictures (T, B, pixels, words) -> counts (B, 64 * words), added to.
API void msr_count_channels(const uint64_t* bits, int32_t* counts, int64_t T, int64_t B,
                            int64_t pixels, int64_t words) {
    for (int64_t i = 0; i < T * B * pixels * words; i++) {
        int32_t* of_word = counts + (i / (pixels * words) % B * words + i % words) * 64;
        for (uint64_t word = bits[i]; word; word &= word - 1) of_word[__builtin_ctzll(word)]++;
    }
}
