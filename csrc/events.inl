// Event-driven sums: rows of weights that the spikes select are added.
#pragma once

#include "lists.inl"
#include "pixels.inl"
#include "shorts.h"
#include "vec.h"

namespace ISA {
namespace {

// A tile's lists: for each chunk of weights and each pixel and step, the rows to add.
struct Lists {
    int64_t chunks, runs, capacity;  // runs: see runs_of
    int32_t* counts;                 // (chunks, runs)
    uint16_t* rows;                  // (chunks, runs, capacity)

    uint16_t* list(int64_t chunk, int64_t run) const {
        return rows + (chunk * runs + run) * capacity;
    }
};

Lists lay_out_lists(const ConvLif& a, int64_t pixels, void* memory) {
    Lists s;
    s.chunks = (neighbour_words(a) + chunk_words(a) - 1) / chunk_words(a);
    s.runs = runs_of(a, pixels);
    s.capacity = chunk_words(a) * 64 + kSlack;
    s.counts = (int32_t*)memory;
    s.rows = (uint16_t*)(s.counts + s.chunks * s.runs);
    return s;
}

// The row of zeros behind the weights, as seen from a chunk.
inline uint16_t zero_row(const ConvLif& a, int64_t first_row) {
    return (uint16_t)(a.kernel * a.kernel * a.lanes_in - first_row);
}

// Behind the end of a list comes the row of zeros, so that lists of a group may be read together up
// to the end of the longest without a branch for each.
inline void fill(uint16_t* end, const ConvLif& a, int64_t first_row) {
    for (int64_t i = 0; i < kFill; i++) end[i] = zero_row(a, first_row);
}

// Appends words [first, last) to a list; gives its length.
template <class WordOf>
inline int32_t append_words(int64_t first, int64_t last, WordOf word_of, uint16_t* list) {
    // One branch for all words: a branch for each would be mispredicted where some fire.
    uint64_t any = 0;
    for (int64_t i = first; i < last; i++) any |= word_of(i);
    int64_t n = 0;
    for (int64_t i = first; any && i < last; i++)
        n += append(word_of(i), (i - first) * 64, list + n);
    return (int32_t)n;
}

void build_lists(const ConvLif& call, const ConvTile& tile, const Lists& lists) {
    // Copies: a vector store may alias everything that is reached through a reference.
    const ConvLif a = call;
    const Lists s = lists;
    const int64_t chunk = chunk_words(a);
    each_run(a, tile, [=](int64_t run, auto words, auto word_of) {
        // Few words make one chunk, and their number is then known to the compiler.
        if (chunk >= words) {
            const int32_t n = s.counts[run] = append_words(0, words, word_of, s.list(0, run));
            if (a.lanes_out < 64) fill(s.list(0, run) + n, a, 0);
            return;
        }
        for (int64_t c = 0, first = 0; c < s.chunks; c++, first += chunk) {
            const int64_t last = first + chunk < words ? first + chunk : words;
            uint16_t* list = s.list(c, run);
            const int32_t n = s.counts[c * s.runs + run] = append_words(first, last, word_of, list);
            if (a.lanes_out < 64) fill(list + n, a, first * 64);
        }
    });
    for (int64_t run = (tile.end - tile.begin) * a.T; run < s.runs; run++)
        for (int64_t c = 0; c < s.chunks; c++) {
            s.counts[c * s.runs + run] = 0;
            fill(s.list(c, run), a, c * chunk * 64);
        }
}

// Sums of one block of channels, kept in registers while a list is read.
template <int BLOCK>
struct FloatSums {
    using Weight = float;
    using Sum = float;
    static constexpr int32_t most = INT32_MAX;  // additions before the sums must be stored
    Vec sum[BLOCK / W];

    void start(const float* from, bool first) {
        for (int r = 0; r < BLOCK / W; r++)
            sum[r] = first ? Vec::all(0.0f) : Vec::load(from + r * W);
    }
    void add(const float* row) {
        for (int r = 0; r < BLOCK / W; r++) sum[r] = sum[r] + Vec::load(row + r * W);
    }
    void store(float* to, bool) {
        for (int r = 0; r < BLOCK / W; r++) sum[r].store(to + r * W);
    }
};

// Bytes are added in lanes of 16 bits, which hold 256 of them.
template <int BLOCK>
struct ByteSums {
    using Weight = int8_t;
    using Sum = int32_t;
    static constexpr int32_t most = 256;
    using Part = typename ShortsFor<BLOCK>::Type;
    static constexpr int parts = BLOCK / Part::width;
    Part sum[parts];

    void start(const int32_t*, bool) {
        for (Part& part : sum) part = Part::zero();
    }
    void add(const int8_t* row) {
        for (int r = 0; r < parts; r++) sum[r].add(row + r * Part::width);
    }
    void store(int32_t* to, bool first) {
        for (int r = 0; r < parts; r++) sum[r].flush(to + r * Part::width, first);
    }
};

// Adds the rows of a chunk. Narrow blocks have too few sums to hide an addition's latency, so
// several runs go side by side.
template <int BLOCK, class Sums>
void add_rows(const ConvLif& a, const Lists& lists, int64_t block, int64_t chunk, void* out) {
    constexpr int GROUP = 64 / BLOCK;
    using Weight = typename Sums::Weight;
    const Lists s = lists;
    const int64_t rows = a.kernel * a.kernel * a.lanes_in + 1, chunk_rows = chunk_words(a) * 64;
    const int64_t first_row = chunk * chunk_rows;
    const auto* weight = (const Weight*)a.weight + (block * rows + first_row) * BLOCK;
    const uint16_t zero = zero_row(a, first_row);
    // The rows of the next chunk or block come nearer meanwhile, some at each group of runs.
    const int64_t mine = rows - first_row < chunk_rows ? rows - first_row : chunk_rows;
    const int64_t behind = a.lanes_out / BLOCK * rows - block * rows - first_row - mine;
    const char* near = (const char*)(weight + mine * BLOCK);
    const int64_t more = behind < chunk_rows ? behind : chunk_rows;
    const int64_t bytes = more * BLOCK * (int64_t)sizeof *weight;
    const int64_t part = (bytes / 64 * GROUP / s.runs + 1) * 64;
    int64_t brought = 0;
    for (int64_t run = 0; run < s.runs; run += GROUP) {
        for (const int64_t end = brought + part; brought < end && brought < bytes; brought += 64)
            __builtin_prefetch(near + brought, 0, 2);
        const int32_t* counts = s.counts + chunk * s.runs + run;
        auto* sums = (typename Sums::Sum*)out + run * BLOCK;
        uint16_t* list = s.list(chunk, run);
        int32_t longest = counts[0];
        for (int g = 1; g < GROUP; g++) longest = counts[g] > longest ? counts[g] : longest;
        if (!longest && chunk) continue;  // the sums stay as they are
        for (int g = 0; GROUP > 1 && g < GROUP; g++)
            for (int64_t i = counts[g] + kFill; i < longest; i++) list[g * s.capacity + i] = zero;
        bool first = chunk == 0;
        int32_t i = 0;
        do {
            Sums sum[GROUP];
            for (int g = 0; g < GROUP; g++) sum[g].start(sums + g * BLOCK, first);
            const int32_t end = longest - i < Sums::most ? longest : i + Sums::most;
            for (; i < end; i++)
                for (int g = 0; g < GROUP; g++)
                    sum[g].add(weight + (int64_t)list[g * s.capacity + i] * BLOCK);
            for (int g = 0; g < GROUP; g++) sum[g].store(sums + g * BLOCK, first);
            first = false;
        } while (i < longest);
    }
}

}  // namespace
}  // namespace ISA
