// The instruction sets of one binary, and the one in use.
#pragma once

enum Isa { kPortable = 0, kAvx2 = 1, kAvx512 = 2, kAvx512Vbmi2 = 3, kAmx = 4 };

// The best that this processor has, unless select_isa asked for less.
Isa current_isa();
