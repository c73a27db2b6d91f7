// Runs every kernel on heap blocks of exactly the bytes it may touch, for the sanitizers to watch.
//
// Compiled by tests/kernels/test_sanitizers.py together with csrc/, with -fsanitize.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "conv.h"

extern "C" {
int msr_select_isa(int level);
void msr_lif_forward(const void*, void*, uint8_t*, uint8_t*, int64_t T, int64_t N, float, float,
                     float, int dtype, int threads);
void msr_lif_backward(const void*, const uint8_t*, const uint8_t*, void*, int64_t T, int64_t N,
                      float, int dtype, int threads);
void msr_unpack(const uint8_t*, void*, int64_t T, int64_t N, int dtype, int threads);
int msr_conv_lif(const ConvLif*, int threads);
void msr_count_channels(const uint64_t*, int32_t*, int64_t T, int64_t B, int64_t pixels,
                        int64_t words);
}

template <class T>
struct Block {
    explicit Block(int64_t n) : data((T*)malloc((size_t)n * sizeof(T))), size(n) {
        unsigned char* bytes = (unsigned char*)data;
        for (size_t i = 0; i < (size_t)n * sizeof(T); i++) bytes[i] = (unsigned char)rand();
    }
    ~Block() { free(data); }
    Block(const Block&) = delete;
    T* data;
    int64_t size;
};

static void fill(Block<float>& block, float scale) {
    for (int64_t i = 0; i < block.size; i++)
        block.data[i] = scale * ((float)rand() / (float)RAND_MAX - 0.4f);
}

static void lif(int64_t T, int64_t N) {
    for (int dtype = 0; dtype < 2; dtype++) {
        const int64_t bytes = T * N * (dtype ? 2 : 4), bits = T * ((N + 7) / 8);
        Block<uint8_t> x(bytes), spikes(bytes), fired(bits), window(bits), grad(bytes);
        msr_lif_forward(x.data, spikes.data, fired.data, window.data, T, N, 0.25f, 0.5f, 0.5f,
                        dtype, 2);
        msr_lif_forward(x.data, spikes.data, nullptr, nullptr, T, N, 0.25f, 0.5f, 0.5f, dtype, 1);
        msr_lif_backward(x.data, fired.data, window.data, grad.data, T, N, 0.25f, dtype, 2);
        msr_unpack(fired.data, spikes.data, T, N, dtype, 2);
    }
}

struct Layer {
    int64_t lanes_in, lanes_out, kernel, stride, weights;
};

static void conv(const Layer& layer, int64_t H, int64_t W, int64_t T, int density) {
    const auto [lanes_in, lanes_out, kernel, stride, weights] = layer;
    const int64_t B = 2, OH = (H - 1) / stride + 1, OW = (W - 1) / stride + 1;
    const int64_t outputs = T * B * OH * OW * lanes_out;
    Block<uint64_t> spikes(T * B * (H + 2) * (W + 2) * words_of(lanes_in));
    for (int64_t i = 0; i < spikes.size; i++) {
        if (density == 0) spikes.data[i] = 0;
        if (density == 2) spikes.data[i] = ~0ull;
        if (lanes_in < 64) spikes.data[i] &= (1ull << lanes_in) - 1;
    }
    const int64_t rows = kernel * kernel * lanes_in, digits = weights == kTiles3 ? 3 : 1;
    const int64_t row_numbers = (rows + 1) * lanes_out, table_numbers = rows * 4 * lanes_out;
    const bool has_floats = weights == kFloatRows || weights == kFloatTables;
    Block<float> floats(weights == kFloatTables ? table_numbers : has_floats ? row_numbers : 1);
    Block<int8_t> bytes(weights >= kTiles ? words_of(rows) * 64 * digits * lanes_out
                        : weights == kShortTables ? table_numbers * 2 : row_numbers);
    Block<float> norm(4 * lanes_out), residual(outputs), potential(outputs);
    fill(floats, 0.1f), fill(norm, 1.0f), fill(residual, 1.0f);
    Block<uint64_t> fired(T * B * (OH + 2) * (OW + 2) * words_of(lanes_out));
    Block<int64_t> counts(T);
    memset(counts.data, 0, (size_t)T * sizeof(int64_t));
    ConvLif a{};
    a.spikes = spikes.data, a.weights = weights;
    a.weight = has_floats ? (const void*)floats.data : bytes.data;
    a.fired = fired.data, a.counts = counts.data;
    a.scale = norm.data, a.shift = norm.data + lanes_out;
    a.residual = residual.data, a.residual_step = outputs / T, a.potential = potential.data;
    a.potential_step = outputs / T, a.potential_stride = 1;
    a.residual_scale = norm.data + 2 * lanes_out, a.residual_shift = norm.data + 3 * lanes_out;
    a.T = T, a.B = B, a.H = H, a.W = W, a.OH = OH, a.OW = OW;
    a.lanes_in = lanes_in, a.lanes_out = lanes_out, a.kernel = kernel, a.stride = stride;
    a.decay = 0.25f, a.threshold = 0.5f;
    for (int threads = 1; threads <= 2; threads++)
        if (msr_conv_lif(&a, threads)) abort();
    const int64_t quarter = B * ((OH + 1) / 2) * ((OW + 1) / 2) * lanes_out;
    Block<float> sparse(T * quarter);
    a.potential = sparse.data, a.potential_step = quarter, a.potential_stride = 2;
    if (msr_conv_lif(&a, 2)) abort();
    a.spikes = nullptr, a.weights = kFloatRows, a.dense = residual.data, a.dense_step = outputs / T;
    if (msr_conv_lif(&a, 2)) abort();
    Block<int32_t> channels(B * 64 * words_of(lanes_out));
    memset(channels.data, 0, (size_t)channels.size * sizeof(int32_t));
    msr_count_channels(fired.data, channels.data, T, B, (OH + 2) * (OW + 2), words_of(lanes_out));
}

int main() {
    // The instructions of AMX (4) are not watched, but what it reads the other products read too.
    for (int isa = 0; isa < 5; isa++) {
        if (msr_select_isa(isa) != isa) continue;
        for (int64_t N : {1, 7, 8, 9, 15, 16, 17, 1023, 1024, 1025, 40001}) lif(3, N);
        for (int64_t weights : {kFloatTables, kShortTables})
            for (int64_t kernel : {1, 3})
                for (int64_t stride : {1, 2}) {
                    conv({16, 16, kernel, stride, weights}, 1, 1, 1, 1);
                    conv({16, 16, kernel, stride, weights}, 3, 5, 3, 2);
                }
        for (int64_t weights : {kFloatRows, kByteRows, kTiles, kTiles3}) {
            for (int64_t lanes_in : {16, 32, 64, 192})
                for (int64_t lanes_out : {16, 32, 64, 128})
                    for (int64_t kernel : {1, 3})
                        for (int64_t stride : {1, 2})
                            for (int density = 0; density < 3; density++) {
                                // What a product reads does not depend on the spikes.
                                if (weights >= kTiles && density != 1) continue;
                                const Layer layer = {lanes_in, lanes_out, kernel, stride, weights};
                                conv(layer, 1, 1, 1, density);
                                conv(layer, 3, 5, 3, density);
                            }
            conv({64, 64, 3, 1, weights}, 23, 17, 5, 1);
        }
        printf("instruction set %d\n", isa);
    }
    return 0;
}
