/* vec_scalar - the vector kernels at level "scalar"; written once in vec_body.h. */
#include "kernels/cpu/vec_body.h"
