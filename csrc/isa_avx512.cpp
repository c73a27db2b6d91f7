#define ISA avx512
#include "conv_kernels.inl"
#include "lif_kernels.inl"
