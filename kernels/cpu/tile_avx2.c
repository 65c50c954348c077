/* tile_avx2 - the matrix kernels at level "avx2" (AVX2); written once in tile_body.h. */
#include "kernels/cpu/tile_body.h"
