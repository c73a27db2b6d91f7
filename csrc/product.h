// Sums over the spikes of many pixels and steps at once: bytes of 0 and 1 times int8 weights.
#pragma once

#include <cstdint>

// A tile of weights: 16 rows of four inputs by 16 outputs, (16, 16 outputs, 4 inputs) bytes, so 64
// inputs and 16 outputs; 16 runs of 64 inputs meet it at a time.
constexpr int64_t kTileRows = 16;
constexpr int64_t kTileBytes = 1024;

// A weight of several digits is d0 + 256 d1 + 65536 d2; each digit is summed by itself, exactly.
struct ProductArgs {
    const int8_t* spikes;  // (runs / 16, words, 16, 64)
    const int8_t* tiles;   // (groups, words, columns of a group, 1024)
    int32_t* sums;         // (digits, runs, block)
    int64_t runs, words, block, digits;  // runs: a multiple of 16
};

// Columns of 16 sums that read the same spikes together: the three digits of 16 channels, or up to
// 64 channels of one digit.
inline int64_t columns_of(const ProductArgs& a) { return a.digits == 3 ? 3 : a.block / 16; }
inline int64_t groups_of(const ProductArgs& a) { return a.digits == 3 ? a.block / 16 : 1; }

using Product = void (*)(const ProductArgs&);

namespace amx {
// Tells whether processor and system have AMX with int8, and asks the system for it once.
bool ready();
void product(const ProductArgs&);
}
