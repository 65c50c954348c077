/* tile_neon - the matrix kernels at level "neon" (NEON with dot products); written once in tile_body.h. */
#include "kernels/cpu/tile_body.h"
