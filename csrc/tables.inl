// Sums over the spikes of narrow layers, four inputs at a time: a table holds what each of their 16
// subsets adds up to. Lists would be short there, and would cost as much as the additions.
#pragma once

#include <utility>

#include "pixels.inl"
#include "shorts.h"
#include "vec.h"

namespace ISA {
namespace {

constexpr int kNarrow = 16;  // lanes in and out

struct FloatTables {
    using Entry = float;
    using Sum = float;
    Vec sum[kNarrow / W];

    FloatTables() {
        for (Vec& part : sum) part = Vec::all(0.0f);
    }
    void add(const float* entry) {
        for (int r = 0; r < kNarrow / W; r++) sum[r] = sum[r] + Vec::load(entry + r * W);
    }
    void add(const FloatTables& other) {
        for (int r = 0; r < kNarrow / W; r++) sum[r] = sum[r] + other.sum[r];
    }
    void store(float* to) const {
        for (int r = 0; r < kNarrow / W; r++) sum[r].store(to + r * W);
    }
};

// 9 x 16 bytes fit in the 16 bits of a sum.
struct ShortTables {
    using Entry = int16_t;
    using Sum = int32_t;
    Shorts16 sum = Shorts16::zero();

    void add(const int16_t* entry) { sum.add(entry); }
    void add(const ShortTables& other) { sum.add(other.sum); }
    void store(int32_t* to) const { sum.flush(to, true); }
};

// Adds what the tables of some bits hold; to four sums in turn, because an addition's result comes
// late.
template <class Tables, int... GROUP>
inline void add_groups(uint64_t bits, const typename Tables::Entry* tables, Tables* sums,
                       std::integer_sequence<int, GROUP...>) {
    constexpr int entries = 16, size = entries * kNarrow;
    (sums[GROUP % 4].add(tables + GROUP * size + (bits >> 4 * GROUP) % entries * kNarrow), ...);
}

template <int TAPS, class Tables>
void add_tables(const ConvLif& call, const ConvTile& tile, typename Tables::Sum* sums) {
    using Entry = typename Tables::Entry;
    // Copies: a vector store may alias everything that is reached through a reference.
    const ConvLif a = call;
    const auto* tables = (const Entry*)a.weight;
    each_run<kNarrow, TAPS>(a, tile, [=](int64_t run, auto words, auto word_of) {
        constexpr auto whole = std::make_integer_sequence<int, 16>();
        constexpr int of_word = 16 * 16 * kNarrow, rest = 4 * TAPS % 16;
        Tables sum[4];
        if (words > 1) {
            add_groups(word_of(0), tables, sum, whole);
            add_groups(word_of(1), tables + of_word, sum, whole);
        }
        add_groups(word_of(words - 1), tables + (words - 1) * of_word, sum,
                   std::make_integer_sequence<int, rest>());
        sum[0].add(sum[1]), sum[2].add(sum[3]), sum[0].add(sum[2]);
        sum[0].store(sums + run * kNarrow);
    });
}

template <class Tables>
void add_tables(const ConvLif& a, const ConvTile& tile, typename Tables::Sum* sums) {
    a.kernel == 1 ? add_tables<1, Tables>(a, tile, sums) : add_tables<9, Tables>(a, tile, sums);
}

}  // namespace
}  // namespace ISA
