/*
 * cut - which rows and columns of a whole are whose.
 */
#include "kernels/team/team.h"

#include <string.h>

int64_t team_whole(const struct kn_cut *cut)
{
    int64_t sum = 0;
    for (int i = 0; cut->way != KN_CUT_NONE && i < KN_CUT_SPANS; i++)
        sum += (int64_t)cut->span[i].len * cut->span[i].times;
    return sum;
}

int team_cut_check(const struct kn_weight *w, struct err *err)
{
    const struct kn_cut *cut = &w->cut;
    if (cut->way == KN_CUT_NONE)
        return 0;
    const int64_t share = cut->way == KN_CUT_COLS ? w->cols : w->rows;
    const int32_t unit = cut->way == KN_CUT_COLS ? (int32_t)kn_dtype_info(w->dtype)->block_elems : 1;
    for (int i = 0; i < KN_CUT_SPANS && cut->span[i].times > 0; i++)
        if (cut->span[i].len < 2 || cut->span[i].len % (2 * unit) != 0)
            return err_set(err, ERR_UNSUPPORTED, "%d %s of type %s cannot be shared by two: halves are whole blocks of %d",
                           cut->span[i].len, cut->way == KN_CUT_COLS ? "columns" : "rows", kn_dtype_name(w->dtype), unit);
    for (int i = 0; i < KN_CUT_SPANS; i++)
        if (cut->span[i].times < 0 || (i > 0 && cut->span[i].times > 0 && cut->span[i - 1].times == 0))
            return err_set(err, ERR_INVAL, "span %d follows itself %d times", i, cut->span[i].times);
    if (team_whole(cut) != 2 * share)
        return err_set(err, ERR_INVAL, "spans of %lld rows or columns in all, a share has %lld", (long long)team_whole(cut),
                       (long long)share);
    return 0;
}

/* The span that whole row `row` is in: how long, how much of it is before the row, and how many rows of a share are before the span. */
static int64_t find_span(const struct kn_cut *cut, int64_t row, int64_t *ret_into, int64_t *ret_before)
{
    int64_t before = 0;
    for (int i = 0; i < KN_CUT_SPANS; i++) {
        const int64_t len = cut->span[i].len, all = len * cut->span[i].times;
        if (row < all) {
            *ret_into = row % len;
            *ret_before = before + row / len * (len / 2);
            return len;
        }
        row -= all;
        before += all / 2;
    }
    return 0;
}

int64_t team_stretch(const struct kn_cut *cut, int64_t row, int64_t most, int *ret_member, int64_t *ret_first)
{
    int64_t into = 0, before = 0;
    const int64_t half = find_span(cut, row, &into, &before) / 2;
    *ret_member = into >= half;
    if (*ret_member)
        into -= half;
    *ret_first = before + into;
    return half - into < most ? half - into : most;
}

void team_cut_cols(const struct kn_cut *cut, enum kn_dtype dtype, int member, int64_t n, const unsigned char *whole,
                   unsigned char *share)
{
    const size_t row_bytes = kn_row_bytes(dtype, (int32_t)team_whole(cut));
    for (int64_t r = 0; r < n; r++, whole += row_bytes) {
        const unsigned char *from = whole;
        for (int i = 0; i < KN_CUT_SPANS; i++) {
            const size_t half = cut->span[i].times > 0 ? kn_row_bytes(dtype, cut->span[i].len / 2) : 0;
            for (int32_t k = 0; k < cut->span[i].times; k++, from += 2 * half, share += half)
                memcpy(share, from + (size_t)member * half, half);
        }
    }
}
