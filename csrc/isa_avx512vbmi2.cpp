#define ISA avx512vbmi2
#include "conv_kernels.inl"
#include "lif_kernels.inl"
