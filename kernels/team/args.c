/*
 * args - ops' args as messages. A table says which members of each op's struct point to what.
 */
#include "kernels/team/team.h"

#include <assert.h>
#include <string.h>

enum field_kind {
    NO_FIELD,
    MEMORY, /* of the device */
    WEIGHT,
    KV, /* structs on the host that point to memory of the device */
    GDN,
    THEN,
};

struct field {
    size_t offset;
    enum field_kind kind;
};

#define FIELDS_MAX 12
struct form {
    size_t bytes;
    struct field fields[FIELDS_MAX + 1];
};

/* what a struct's field is: M(op, member) and so on */
#define AT(op, member, kind_)                                                                                                  \
    {                                                                                                                          \
        offsetof(struct kn_##op##_args, member), kind_                                                                         \
    }
#define M(op, member) AT(op, member, MEMORY)
#define W(op, member) AT(op, member, WEIGHT)

static const struct form forms[KN_OP_COUNT] = {
#define FORM(op, ...) [KN_OP_##op] = {sizeof(struct kn_##op##_args), {__VA_ARGS__}}
    FORM(embed, M(embed, step), W(embed, table), M(embed, y.data)),
    FORM(put_rows, M(put_rows, x.data), M(put_rows, y.data)),
    FORM(gather_rows, M(gather_rows, x.data), M(gather_rows, rows), M(gather_rows, y.data)),
    FORM(add_rms_norm, M(add_rms_norm, x.data), M(add_rms_norm, res.data), M(add_rms_norm, w), M(add_rms_norm, y.data)),
    FORM(gated_rms_norm, M(gated_rms_norm, x.data), M(gated_rms_norm, z.data), M(gated_rms_norm, w), M(gated_rms_norm, y.data)),
    FORM(add_layer_norm, M(add_layer_norm, x.data), M(add_layer_norm, res.data), M(add_layer_norm, w), M(add_layer_norm, b),
         M(add_layer_norm, y.data)),
    FORM(linear, M(linear, x.data), W(linear, w), M(linear, bias), M(linear, y.data), AT(linear, then, THEN)),
    FORM(project, M(project, x.data), W(project, w[0]), W(project, w[1]), W(project, w[2]), W(project, w[3]),
         M(project, y[0].data), M(project, y[1].data), M(project, y[2].data), M(project, y[3].data)),
    FORM(gate_up, M(gate_up, x.data), W(gate_up, gate), W(gate_up, up), M(gate_up, y.data)),
    FORM(attn_store, M(attn_store, step), M(attn_store, qg.data), M(attn_store, k.data), M(attn_store, v.data),
         M(attn_store, q_norm), M(attn_store, k_norm), M(attn_store, inv_freq), M(attn_store, axis), AT(attn_store, kv, KV),
         M(attn_store, q.data)),
    FORM(attn, M(attn, step), M(attn, q.data), M(attn, gate.data), AT(attn, kv, KV), M(attn, y.data)),
    FORM(gdn_conv, M(gdn_conv, step), M(gdn_conv, x.data), M(gdn_conv, w), M(gdn_conv, state), M(gdn_conv, y.data)),
    FORM(gdn_scan, M(gdn_scan, step), M(gdn_scan, qkv.data), M(gdn_scan, b.data), M(gdn_scan, alpha.data), M(gdn_scan, a),
         M(gdn_scan, dt), AT(gdn_scan, state, GDN), M(gdn_scan, z.data), M(gdn_scan, norm), M(gdn_scan, y.data)),
    FORM(moe_route, M(moe_route, x.data), W(moe_route, w), M(moe_route, ids), M(moe_route, weights.data), M(moe_route, shared),
         M(moe_route, gates.data)),
    FORM(moe_gate_up, M(moe_gate_up, x.data), M(moe_gate_up, ids), W(moe_gate_up, gate), W(moe_gate_up, up),
         M(moe_gate_up, y.data), W(moe_gate_up, shared_gate), W(moe_gate_up, shared_up), M(moe_gate_up, shared_y.data)),
    FORM(moe_down, M(moe_down, h.data), M(moe_down, ids), M(moe_down, weights.data), W(moe_down, down), M(moe_down, y.data),
         W(moe_down, shared_down), M(moe_down, shared_h.data), M(moe_down, gates.data), AT(moe_down, then, THEN)),
    FORM(top_k, M(top_k, x.data), M(top_k, mask), M(top_k, y)),
    FORM(patchify, M(patchify, rgb), M(patchify, y.data)),
    FORM(add_pos_embed, M(add_pos_embed, x.data), M(add_pos_embed, grid)),
    FORM(rope_2d, M(rope_2d, qkv.data)),
    FORM(attn_full, M(attn_full, qkv.data), M(attn_full, y.data)),
    FORM(copy, M(copy, dst), M(copy, src)),
    FORM(fill_zero, M(fill_zero, dst)),
#undef FORM
};

static const struct field kv_fields[] = {
    {offsetof(struct kn_kv, k), MEMORY}, {offsetof(struct kn_kv, v), MEMORY}, {0, NO_FIELD}};
static const struct field gdn_fields[] = {{offsetof(struct kn_gdn_state, data), MEMORY}, {0, NO_FIELD}};

/* What a field of such a kind points to: how long it is, and its own fields. */
static size_t pointee(enum field_kind kind, const struct field **ret_fields)
{
    switch (kind) {
    case KV: *ret_fields = kv_fields; return sizeof(struct kn_kv);
    case GDN: *ret_fields = gdn_fields; return sizeof(struct kn_gdn_state);
    case THEN: *ret_fields = forms[KN_OP_add_rms_norm].fields; return sizeof(struct kn_add_rms_norm_args);
    default: return 0;
    }
}

static const void *get_pointer(const void *args, const struct field *f)
{
    const void *p;
    memcpy(&p, (const char *)args + f->offset, sizeof p);
    return p;
}

static void set_pointer(void *args, const struct field *f, const void *p)
{
    memcpy((char *)args + f->offset, &p, sizeof p);
}

void team_call(const struct kn_ops *ops, struct kn_stream *stream, enum kn_op op, const void *args)
{
    switch (op) {
#define KN_OP(name)                                                                                                            \
    case KN_OP_##name:                                                                                                         \
        ops->name(stream, args);                                                                                               \
        break;
#include "kernels/ops.def"
#undef KN_OP
    case KN_OP_COUNT: break;
    }
}

uint64_t team_abi(void)
{
    uint64_t sum = TEAM_PROTOCOL;
    for (int i = 0; i < KN_OP_COUNT; i++) {
        sum = sum * 1000003 + forms[i].bytes;
        for (const struct field *f = forms[i].fields; f->kind != NO_FIELD; f++)
            sum = sum * 8191 + f->offset * 8 + (uint64_t)f->kind;
    }
    return sum * 31 + sizeof(struct kn_step) + sizeof(struct kn_seq) + sizeof(struct team_hello) + sizeof(struct kn_limits);
}

/* ---- the leader's side ------------------------------------------------------------------------------------------------------ */

void team_send_op(struct wire *w, uint32_t stream, enum kn_op op, const void *args)
{
    const struct form *form = &forms[op];
    const uint32_t head[2] = {stream, (uint32_t)op};
    struct team_args copy;
    const struct field *inner;
    size_t bytes = sizeof head + form->bytes;
    memcpy(&copy.of, args, form->bytes);
    for (const struct field *f = form->fields; f->kind != NO_FIELD; f++) {
        const void *p = get_pointer(args, f);
        if (p && f->kind == WEIGHT) /* numbers from 1 on: 0 is none */
            set_pointer(&copy.of, f,
                        (void *)(uintptr_t)(((const struct team_weight *)((const struct kn_weight *)p)->data)->number + 1));
        else if (p)
            bytes += pointee(f->kind, &inner);
    }
    wire_begin(w, TEAM_OP, bytes);
    wire_put(w, head, sizeof head);
    wire_put(w, &copy.of, form->bytes);
    for (const struct field *f = form->fields; f->kind != NO_FIELD; f++)
        if (f->kind > WEIGHT && get_pointer(args, f))
            wire_put(w, get_pointer(args, f), pointee(f->kind, &inner));
}

void team_local_args(enum kn_op op, const void *args, struct team_args *ret)
{
    const struct form *form = &forms[op];
    memcpy(&ret->of, args, form->bytes);
    for (const struct field *f = form->fields; f->kind != NO_FIELD; f++)
        if (f->kind == WEIGHT && get_pointer(args, f))
            set_pointer(&ret->of, f, &((struct team_weight *)((const struct kn_weight *)get_pointer(args, f))->data)->share);
}

/* ---- the second member's side ----------------------------------------------------------------------------------------------- */

struct reading {
    const unsigned char *at;
    size_t left;
    const struct team_finder *finder;
    struct err *err;
};

static int read_bytes(struct reading *r, void *dst, size_t n)
{
    if (n > r->left)
        return err_set(r->err, ERR_FORMAT, "a message ends early");
    memcpy(dst, r->at, n);
    r->at += n;
    r->left -= n;
    return 0;
}

/* The leader's pointers in a struct to this member's. */
static int translate(struct reading *r, void *args, const struct field *fields, struct team_args *room)
{
    int rc = 0;
    for (const struct field *f = fields; f->kind != NO_FIELD && rc == 0; f++) {
        const uintptr_t p = (uintptr_t)get_pointer(args, f);
        const struct field *inner = NULL;
        void *to = NULL;
        if (p == 0)
            continue;
        if (f->kind == MEMORY) {
            to = r->finder->memory(r->finder->ctx, p);
        } else if (f->kind == WEIGHT) {
            struct team_weight *w = p <= UINT32_MAX ? r->finder->weight(r->finder->ctx, (uint32_t)p - 1) : NULL;
            to = w ? &w->share : NULL;
        } else {
            assert(room); /* structs that are pointed to point to memory alone */
            to = f->kind == KV ? (void *)&room->kv : f->kind == GDN ? (void *)&room->gdn : (void *)&room->then;
            rc = read_bytes(r, to, pointee(f->kind, &inner));
            if (rc == 0)
                rc = translate(r, to, inner, NULL);
        }
        if (!to)
            return err_set(r->err, ERR_FORMAT, "a message names what was never made");
        set_pointer(args, f, to);
    }
    return rc;
}

int team_read_args(enum kn_op op, const unsigned char *bytes, size_t n, const struct team_finder *finder, struct team_args *ret,
                   struct err *err)
{
    struct reading r = {.at = bytes, .left = n, .finder = finder, .err = err};
    const int rc = read_bytes(&r, &ret->of, forms[op].bytes);
    if (rc != 0 || translate(&r, &ret->of, forms[op].fields, ret) != 0)
        return err->code;
    return r.left == 0 ? 0 : err_set(err, ERR_FORMAT, "a message is too long");
}
