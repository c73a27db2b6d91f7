#define ISA portable
#include "conv_kernels.inl"
#include "lif_kernels.inl"
