/* vec_avx2 - the vector kernels at level "avx2"; written once in vec_body.h. */
#include "kernels/cpu/vec_body.h"
