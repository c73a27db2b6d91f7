#define ISA avx2
#include "lif_kernels.inl"
