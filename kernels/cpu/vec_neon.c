/* vec_neon - the vector kernels at level "neon" (NEON with dot products); written once in vec_body.h. */
#include "kernels/cpu/vec_body.h"
