/* tile_avx512 - the matrix kernels at level "avx512" (AVX-512 with VNNI); written once in tile_body.h. */
#include "kernels/cpu/tile_body.h"
