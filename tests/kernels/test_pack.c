/*
 * The interleaved layout of the CPU device's weights: whole groups of rows, which go through registers, and single rows, which do not, leave the same bytes; and every row comes back.
 */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/cpu/pack.h"

static void all_types_and_pieces(void **state)
{
    static const int32_t rows[] = {1, 15, 16, 37, 48}, blocks[] = {1, 2, 5}, pieces[] = {1, 5, 16, 17, 100};
    for (int type = 0; type < KN_DTYPE_COUNT; type++) {
        const struct pack_layout *l = pack_layout_of((enum kn_dtype)type);
        if (!l)
            continue;
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            for (size_t k = 0; k < sizeof blocks / sizeof *blocks; k++) {
                struct pack_shape s;
                const int32_t n = rows[i], cols = blocks[k] * (l->elems == 1 ? 33 : l->elems);
                assert_true(pack_shape_init(&s, (enum kn_dtype)type, n, cols));
                const size_t row = (size_t)s.n_blocks * l->block_bytes;
                uint8_t *src = malloc((size_t)n * row), *back = malloc(row); /* not a byte more: reading beyond is seen */
                uint8_t *want = aligned_alloc(64, s.slice_bytes), *got = aligned_alloc(64, s.slice_bytes);
                for (size_t b = 0; b < (size_t)n * row; b++)
                    src[b] = (uint8_t)rng_at((uint64_t)type, b);
                memset(want, 0, s.slice_bytes);
                for (int32_t r = 0; r < n; r++)
                    pack_rows(&s, want, r, 1, src + (size_t)r * row);
                for (int32_t r = 0; r < n; r++) {
                    pack_get_row(&s, want, r, 0, s.n_blocks, back);
                    assert_memory_equal(back, src + (size_t)r * row, row);
                }
                for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
                    memset(got, 0, s.slice_bytes);
                    for (int32_t r = 0; r < n; r += pieces[p])
                        pack_rows(&s, got, r, n - r < pieces[p] ? n - r : pieces[p], src + (size_t)r * row);
                    if (memcmp(got, want, s.slice_bytes) != 0)
                        fail_msg("%s, %d x %d in pieces of %d: bytes differ", kn_dtype_name((enum kn_dtype)type), n, cols,
                                 pieces[p]);
                }
                free(src);
                free(back);
                free(want);
                free(got);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_types_and_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
