#include "engine/share.h"

#include <string.h>

/* What the dimension that is cut consists of. */
enum spans {
    ONE,         /* halves of the whole */
    GATE_AND_UP, /* two of the same */
    CONV,        /* queries, keys, then values by groups of n_k heads */
    VALUES,      /* d_v for each value head, in such groups */
    VALUE_HEADS, /* one for each value head, in such groups */
};

/* Tensors of a block by their names' last part. */
static const struct rule {
    const char *name;
    enum kn_cut_way way;
    enum spans spans;
} rules[] = {
    {"attn_q.weight", KN_CUT_ROWS, ONE},
    {"attn_k.weight", KN_CUT_ROWS, ONE},
    {"attn_v.weight", KN_CUT_ROWS, ONE},
    {"attn_output.weight", KN_CUT_COLS, ONE},
    {"attn_qkv.weight", KN_CUT_ROWS, CONV},
    {"attn_gate.weight", KN_CUT_ROWS, VALUES},
    {"ssm_conv1d.weight", KN_CUT_ROWS, CONV},
    {"ssm_dt.bias", KN_CUT_ROWS, VALUE_HEADS},
    {"ssm_a", KN_CUT_ROWS, VALUE_HEADS},
    {"ssm_beta.weight", KN_CUT_ROWS, VALUE_HEADS},
    {"ssm_alpha.weight", KN_CUT_ROWS, VALUE_HEADS},
    {"ssm_out.weight", KN_CUT_COLS, VALUES},
    {"ffn_gate.weight", KN_CUT_ROWS, ONE},
    {"ffn_up.weight", KN_CUT_ROWS, ONE},
    {"ffn_down.weight", KN_CUT_COLS, ONE},
    {"ffn_gate_up_exps.weight", KN_CUT_ROWS, GATE_AND_UP},
    {"ffn_gate_exps.weight", KN_CUT_ROWS, ONE},
    {"ffn_up_exps.weight", KN_CUT_ROWS, ONE},
    {"ffn_down_exps.weight", KN_CUT_COLS, ONE},
    {"ffn_gate_shexp.weight", KN_CUT_ROWS, ONE},
    {"ffn_up_shexp.weight", KN_CUT_ROWS, ONE},
    {"ffn_down_shexp.weight", KN_CUT_COLS, ONE},
};

static int halve(int32_t *n, const char *what, struct err *err)
{
    if (*n % 2 != 0)
        return err_set(err, ERR_UNSUPPORTED, "this model cannot be shared by two devices: it has %d %s", *n, what);
    *n /= 2;
    return 0;
}

int share_shape(const struct model_shape *whole, int members, struct model_shape *ret, struct err *err)
{
    struct model_shape s = *whole;
    if (members == 2) {
        const struct {
            int32_t *n;
            const char *what;
        } parts[] = {{&s.n_head, "attention heads"},
                     {&s.n_head_kv, "key-value heads"},
                     {&s.n_k, "key heads of its linear attention"},
                     {&s.n_v, "value heads of its linear attention"},
                     {&s.n_ff, "feed-forward units"},
                     {&s.n_ff_expert, "units in an expert"},
                     {&s.n_ff_shared, "units in its shared expert"}};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            const int rc = halve(parts[i].n, parts[i].what, err);
            if (rc != 0)
                return rc;
        }
    }
    *ret = s;
    return 0;
}

struct kn_cut share_cut(const struct model_shape *s, int members, const struct tensor_spec *spec)
{
    struct kn_cut cut = {0};
    if (members != 2 || (spec->flags & TENSOR_NEXTN))
        return cut;
    if (strcmp(spec->name, "output.weight") == 0) {
        if (s->n_vocab % 2 == 0)
            cut = (struct kn_cut){.way = KN_CUT_JOIN, .span = {{s->n_vocab, 1}}};
        return cut;
    }
    if (spec->layer < 0 || strncmp(spec->name, "blk.", 4) != 0)
        return cut;
    const char *last = strchr(spec->name + 4, '.') + 1;
    const struct rule *rule = NULL;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(rules[i].name, last) == 0)
            rule = &rules[i];
    if (!rule)
        return cut;
    const int32_t all = (int32_t)(rule->way == KN_CUT_COLS ? spec->cols : spec->rows), groups = s->n_v / s->n_k;
    cut.way = rule->way;
    switch (rule->spans) {
    case ONE: cut.span[0].len = all, cut.span[0].times = 1; break;
    case GATE_AND_UP: cut.span[0].len = all / 2, cut.span[0].times = 2; break;
    case CONV:
        cut.span[0].len = s->n_k * s->d_k, cut.span[0].times = 2;
        cut.span[1].len = s->n_k * s->d_v, cut.span[1].times = groups;
        break;
    case VALUES: cut.span[0].len = s->n_k * s->d_v, cut.span[0].times = groups; break;
    case VALUE_HEADS: cut.span[0].len = s->n_k, cut.span[0].times = groups; break;
    }
    return cut;
}

void share_size(const struct kn_cut *cut, const struct tensor_spec *spec, int32_t *ret_rows, int32_t *ret_cols)
{
    *ret_rows = (int32_t)(cut->way == KN_CUT_ROWS || cut->way == KN_CUT_JOIN ? spec->rows / 2 : spec->rows);
    *ret_cols = (int32_t)(cut->way == KN_CUT_COLS ? spec->cols / 2 : spec->cols);
}
