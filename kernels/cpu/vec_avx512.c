/* vec_avx512 - the vector kernels at level "avx512"; written once in vec_body.h. */
#include "kernels/cpu/vec_body.h"
