#define ISA portable
#include "lif_kernels.inl"
