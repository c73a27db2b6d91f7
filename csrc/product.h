// Sums over the spikes of many pixels and steps at once: bits times int8 weights, dense.
#pragma once

#include <cstdint>

// A tile of weights: 16 rows of four inputs by 16 outputs, (16, 16 outputs, 4 inputs) bytes, so 64
// inputs and 16 outputs; a block of 16 runs of 64 inputs meets it at a time.
constexpr int64_t kTileRows = 16;
constexpr int64_t kTileBytes = 1024;

// One group of columns, which meet the same spikes together: 16 or 32 channels, or the three digits
// of 16 channels, whose weights are d0 + 256 d1 + 65536 d2. Sums of a digit are exact.
struct ProductArgs {
    const uint64_t* spikes;  // (runs / 16, words, 16)
    const int8_t* tiles;     // (words, columns, 1024)
    void* sums;              // int32 (runs, 16 * columns), or float (runs, 16) of three digits
    int64_t runs, words, columns;  // runs: a multiple of 16; columns: 1, 2 or 3 digits
    int64_t turn;                  // how often the tiles were walked through before
    const int8_t* next;            // weights that will be read soon
    int64_t next_lines;            // of 64 bytes
};

struct Product {
    void (*start)();  // before the first sums of a thread, and `stop` behind the last
    void (*sums)(const ProductArgs&);
    void (*stop)();
};

namespace amx {
// Tells whether processor and system have AMX with int8, and asks the system for it once.
bool ready();
extern const Product product;
}
