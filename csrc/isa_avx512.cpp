#define ISA avx512
#include "lif_kernels.inl"
