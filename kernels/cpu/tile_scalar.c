/* tile_scalar - the matrix kernels at level "scalar" (plain C); written once in tile_body.h. */
#include "kernels/cpu/tile_body.h"
