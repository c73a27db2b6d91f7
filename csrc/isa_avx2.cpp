#define ISA avx2
#include "conv_kernels.inl"
#include "lif_kernels.inl"
