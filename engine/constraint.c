#include "engine/constraint.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Phases of a frame; what they mean depends on the node's kind. */
enum {
    START,   /* nothing of the value is there */
    FIRST,   /* object, array: behind the opening bracket */
    KEY,     /* object: inside a key, `count` bytes matched of candidate's text */
    VALUE,   /* object, array: a child is open above */
    AFTER,   /* object, array: behind a child */
    COMMA,   /* object, array: behind a comma */
    CONTENT, /* string: between the quotes; integer, number: digits; literal: `count` bytes matched */
    ESCAPE,  /* string: behind a backslash */
    UTF8,    /* string: inside a code point: flags = bytes left, value = lo | hi << 8 of the next byte */
    FRACTION /* number: behind the point */
};
#define NEGATIVE 1 /* flags of integer and number */

static const struct schema_node *node_of(const struct constraint *c, const struct constraint_frame *f)
{
    return &c->schema->nodes[f->node];
}

static struct constraint_frame *top(struct constraint *c)
{
    return &c->frames[c->depth - 1];
}

static const struct constraint_frame *top_const(const struct constraint *c)
{
    return &c->frames[c->depth - 1];
}

static void push(struct constraint *c, int32_t node)
{
    assert(c->depth <= SCHEMA_DEPTH_MAX);
    c->frames[c->depth++] = (struct constraint_frame){.node = (int16_t)node, .phase = START};
}

static void pop(struct constraint *c)
{
    if (--c->depth < c->mark_depth)
        c->mark_depth = c->depth;
    if (c->depth == 0) {
        c->is_done = true;
        return;
    }
    struct constraint_frame *f = top(c);
    f->phase = AFTER;
    if (node_of(c, f)->kind == SCHEMA_ARRAY)
        f->count++;
}

void constraint_mark(struct constraint *c)
{
    c->mark_depth = c->depth;
    c->entered = false;
    c->is_at_mark = true;
}

void constraint_copy(struct constraint *dst, const struct constraint *src)
{
    memcpy(dst, src, offsetof(struct constraint, frames) + (size_t)src->depth * sizeof src->frames[0]);
}

void constraint_init(struct constraint *c, const struct en_schema *schema)
{
    memset(c, 0, sizeof *c);
    c->schema = schema;
    push(c, 0);
}

/* ---- whole numbers ------------------------------------------------------------------------------------------------------------------- */

/* Whether some whole number in [lo, hi] (magnitudes) is written with the digits of v followed by any number of further digits. */
static bool prefix_fits(int64_t v, int64_t lo, int64_t hi)
{
    if (lo > hi)
        return false;
    if (v == 0) /* no leading zeros */
        return lo == 0;
    for (__int128 a = v, b = v; a <= hi; a = 10 * a, b = 10 * b + 9)
        if (b >= lo)
            return true;
    return false;
}

/* The magnitudes that the sign leaves. */
static void magnitudes(const struct schema_node *n, bool negative, int64_t *lo, int64_t *hi)
{
    if (negative) {
        *lo = n->max < 0 ? -n->max : 1; /* no -0 */
        *hi = -n->min;
    } else {
        *lo = n->min > 0 ? n->min : 0;
        *hi = n->max;
    }
}

static bool integer_digit(const struct schema_node *n, const struct constraint_frame *f, int digit, int64_t *ret_value)
{
    int64_t lo, hi;
    magnitudes(n, f->flags & NEGATIVE, &lo, &hi);
    if (f->count > 0 && f->value == 0)
        return false;
    *ret_value = f->value * 10 + digit;
    return f->count < 17 && prefix_fits(*ret_value, lo, hi);
}

static bool integer_can_end(const struct schema_node *n, const struct constraint_frame *f)
{
    int64_t lo, hi;
    magnitudes(n, f->flags & NEGATIVE, &lo, &hi);
    return f->phase == CONTENT && f->count > 0 && f->value >= lo && f->value <= hi;
}

static bool integer_may_be_negative(const struct schema_node *n)
{
    return n->min < 0;
}

#define NUMBER_DIGITS   15
#define NUMBER_FRACTION 6

static bool number_can_end(const struct constraint_frame *f)
{
    return (f->phase == CONTENT && f->count > 0 && !(f->flags & NEGATIVE && f->value == 0)) ||
           (f->phase == FRACTION && f->count > 0);
}

/* ---- objects --------------------------------------------------------------------------------------------------------------------------- */

static int32_t next_property(const struct constraint_frame *f)
{
    return (int32_t)(f->value & 0xFFFFFFFF);
}

static int32_t candidate(const struct constraint_frame *f)
{
    return (int32_t)(f->value >> 32);
}

static void set_object(struct constraint_frame *f, int32_t next, int32_t cand)
{
    f->value = (int64_t)next | (int64_t)cand << 32;
}

/* The first required property at or behind `from`, or n_properties. */
static int32_t first_required(const struct schema_node *n, int32_t from)
{
    while (from < n->n_properties && !n->properties[from].required)
        from++;
    return from;
}

/* The property at or behind `from`, up to the first required one, whose key goes on from `like`'s first `matched` bytes with `byte`; -1: none. */
static int32_t find_key(const struct schema_node *n, int32_t from, int32_t like, int32_t matched, uint8_t byte)
{
    const int32_t last = first_required(n, from);
    for (int32_t p = like; p < n->n_properties && p <= last; p++) {
        const struct schema_text *key = &n->properties[p].key;
        if (key->n > matched && (uint8_t)key->bytes[matched] == byte &&
            memcmp(key->bytes, n->properties[like].key.bytes, (size_t)matched) == 0)
            return p;
    }
    return -1;
}

static bool object_byte(struct constraint *c, struct constraint_frame *f, const struct schema_node *n, uint8_t byte)
{
    const int32_t next = next_property(f);
    switch (f->phase) {
    case START:
        if (byte != '{')
            return false;
        f->phase = FIRST;
        return true;
    case FIRST:
    case AFTER:
        if (byte == '}' && first_required(n, next) == n->n_properties) {
            pop(c);
            return true;
        }
        if (f->phase == AFTER) {
            f->phase = COMMA;
            return byte == ',' && next < n->n_properties;
        }
        /* fall through */
    case COMMA: {
        const int32_t p = next < n->n_properties ? find_key(n, next, next, 0, byte) : -1;
        if (p < 0)
            return false;
        set_object(f, next, p);
        f->phase = KEY;
        f->count = 1;
        return true;
    }
    case KEY: {
        const int32_t p = find_key(n, next, candidate(f), f->count, byte);
        if (p < 0)
            return false;
        set_object(f, next, p);
        if (++f->count == n->properties[p].key.n) {
            set_object(f, p + 1, 0);
            f->phase = VALUE;
            push(c, n->properties[p].node);
        }
        return true;
    }
    default: return false;
    }
}

static bool array_byte(struct constraint *c, struct constraint_frame *f, const struct schema_node *n, uint8_t byte);
static bool take_byte(struct constraint *c, uint8_t byte);

/* ---- strings ----------------------------------------------------------------------------------------------------------------------------- */

/* A byte that begins a code point: how many follow, and the range of the first of them; false: none begins so. */
static bool utf8_lead(uint8_t b, uint8_t *left, uint8_t *lo, uint8_t *hi)
{
    *lo = 0x80;
    *hi = 0xBF;
    if (b < 0x80) {
        *left = 0;
        return true;
    }
    if (b < 0xC2 || b > 0xF4)
        return false;
    *left = b < 0xE0 ? 1 : b < 0xF0 ? 2 : 3;
    if (b == 0xE0)
        *lo = 0xA0;
    if (b == 0xED)
        *hi = 0x9F;
    if (b == 0xF0)
        *lo = 0x90;
    if (b == 0xF4)
        *hi = 0x8F;
    return true;
}

static bool string_byte(struct constraint *c, struct constraint_frame *f, const struct schema_node *n, uint8_t byte)
{
    uint8_t left, lo, hi;
    switch (f->phase) {
    case START: f->phase = CONTENT; return byte == '"';
    case CONTENT:
        if (byte == '"') {
            if (f->count < n->min_count)
                return false;
            pop(c);
            return true;
        }
        if (f->count >= n->max_count || byte < 0x20 || byte == 0x7F)
            return false;
        if (byte == '\\') {
            f->phase = ESCAPE;
            return true;
        }
        if (!utf8_lead(byte, &left, &lo, &hi))
            return false;
        if (left) {
            f->phase = UTF8;
            f->flags = left;
            f->value = lo | hi << 8;
        } else {
            f->count++;
        }
        return true;
    case ESCAPE:
        f->phase = CONTENT;
        f->count++;
        return memchr("\"\\/bfnrt", byte, 8) != NULL;
    case UTF8:
        if (byte < (f->value & 0xFF) || byte > f->value >> 8)
            return false;
        f->value = 0x80 | 0xBF << 8;
        if (--f->flags == 0) {
            f->phase = CONTENT;
            f->count++;
        }
        return true;
    default: return false;
    }
}

/* ---- literals ------------------------------------------------------------------------------------------------------------------------------ */

/* The first alternative from `like` on that goes on with `byte` behind the `matched` bytes that like has; -1: none. */
static int32_t find_alternative(const struct schema_node *n, int32_t like, int32_t matched, uint8_t byte)
{
    for (int32_t a = 0; a < n->n_alternatives; a++) {
        const struct schema_text *t = &n->alternatives[a];
        if (t->n > matched && (uint8_t)t->bytes[matched] == byte &&
            memcmp(t->bytes, n->alternatives[like].bytes, (size_t)matched) == 0)
            return a;
    }
    return -1;
}

/* An alternative of exactly the matched bytes, or -1. */
static int32_t literal_complete(const struct schema_node *n, const struct constraint_frame *f)
{
    for (int32_t a = 0; f->phase == CONTENT && a < n->n_alternatives; a++)
        if (n->alternatives[a].n == f->count &&
            memcmp(n->alternatives[a].bytes, n->alternatives[f->value].bytes, (size_t)f->count) == 0)
            return a;
    return -1;
}

/* Whether a longer alternative begins with the matched bytes. */
static bool literal_goes_on(const struct schema_node *n, const struct constraint_frame *f)
{
    for (int32_t a = 0; a < n->n_alternatives; a++)
        if (n->alternatives[a].n > f->count &&
            memcmp(n->alternatives[a].bytes, n->alternatives[f->value].bytes, (size_t)f->count) == 0)
            return true;
    return false;
}

static bool literal_byte(struct constraint *c, struct constraint_frame *f, const struct schema_node *n, uint8_t byte)
{
    const int32_t a = find_alternative(n, f->phase == START ? 0 : (int32_t)f->value, f->phase == START ? 0 : f->count, byte);
    if (a < 0)
        return false;
    if (f->phase == START && c->is_at_mark) /* the token begins with the choice: it may decide it */
        c->mark_depth = c->depth;
    f->phase = CONTENT;
    f->value = a;
    f->count++;
    /* a token that came from before the choice may take the bytes that all share, and no decision */
    if (f->count > n->common && n->n_alternatives > 1 && c->depth > c->mark_depth)
        c->entered = true;
    if (!literal_goes_on(n, f))
        pop(c);
    return true;
}

/* ---- numbers and dispatch -------------------------------------------------------------------------------------------------------------------- */

static bool integer_byte(struct constraint_frame *f, const struct schema_node *n, uint8_t byte)
{
    if (f->phase == START && byte == '-' && integer_may_be_negative(n)) {
        f->flags = NEGATIVE;
        f->phase = CONTENT;
        return true;
    }
    int64_t value;
    if (byte < '0' || byte > '9' || !integer_digit(n, f, byte - '0', &value))
        return false;
    f->phase = CONTENT;
    f->value = value;
    f->count++;
    return true;
}

static bool number_byte(struct constraint_frame *f, uint8_t byte)
{
    if (f->phase == START && byte == '-') {
        f->flags = NEGATIVE;
        f->phase = CONTENT;
        return true;
    }
    if (f->phase == FRACTION) {
        f->count++;
        return byte >= '0' && byte <= '9' && f->count <= NUMBER_FRACTION;
    }
    if (byte == '.' && f->count > 0) {
        f->phase = FRACTION;
        f->count = 0;
        return true;
    }
    if (byte < '0' || byte > '9' || f->count == NUMBER_DIGITS || (f->count > 0 && f->value == 0))
        return false;
    f->phase = CONTENT;
    f->value = f->value * 10 + (byte - '0');
    f->count++;
    return true;
}

/* A value that has no end of its own, at a place where it may end. */
static bool open_end(const struct constraint *c)
{
    const struct constraint_frame *f = top_const(c);
    const struct schema_node *n = node_of(c, f);
    switch (n->kind) {
    case SCHEMA_INTEGER: return integer_can_end(n, f);
    case SCHEMA_NUMBER: return number_can_end(f);
    case SCHEMA_LITERAL: return literal_complete(n, f) >= 0;
    default: return false;
    }
}

static bool array_byte(struct constraint *c, struct constraint_frame *f, const struct schema_node *n, uint8_t byte)
{
    switch (f->phase) {
    case START: f->phase = FIRST; return byte == '[';
    case FIRST:
    case AFTER:
        if (byte == ']' && f->count >= n->min_count) {
            pop(c);
            return true;
        }
        if (f->count >= n->max_count)
            return false;
        if (f->phase == AFTER) {
            f->phase = COMMA;
            return byte == ',';
        }
        /* fall through */
    case COMMA:
        f->phase = VALUE;
        push(c, n->item);
        return take_byte(c, byte);
    default: return false;
    }
}

static bool take_byte(struct constraint *c, uint8_t byte)
{
    while (c->depth > 0) {
        struct constraint_frame *f = top(c);
        const struct schema_node *n = node_of(c, f);
        bool ok = false;
        const struct constraint_frame before = *f;
        switch (n->kind) {
        case SCHEMA_OBJECT: return object_byte(c, f, n, byte);
        case SCHEMA_ARRAY: return array_byte(c, f, n, byte);
        case SCHEMA_STRING: return string_byte(c, f, n, byte);
        case SCHEMA_INTEGER: ok = integer_byte(f, n, byte); break;
        case SCHEMA_NUMBER: ok = number_byte(f, byte); break;
        case SCHEMA_LITERAL: ok = literal_byte(c, f, n, byte); break;
        }
        if (ok)
            return true;
        /* a number ends where the next byte belongs to what holds it */
        *f = before;
        if (!open_end(c) || c->depth == 1)
            return false;
        pop(c);
    }
    return false;
}

bool constraint_advance(struct constraint *c, uint8_t byte)
{
    const bool ok = take_byte(c, byte);
    c->is_at_mark = false;
    return ok;
}

bool constraint_can_end(const struct constraint *c)
{
    return c->is_done || (c->depth == 1 && open_end(c));
}

bool constraint_take(struct constraint *c, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!constraint_advance(c, (uint8_t)bytes[i]))
            return false;
    return true;
}

/* ---- the way to close ---------------------------------------------------------------------------------------------------------------------- */

/* The smallest digit that fits, one that makes a whole number in range first. */
static int close_digit(const struct schema_node *n, const struct constraint_frame *f)
{
    int64_t lo, hi, value;
    magnitudes(n, f->flags & NEGATIVE, &lo, &hi);
    int fallback = -1;
    for (int d = 0; d <= 9; d++)
        if (integer_digit(n, f, d, &value)) {
            if (value >= lo && value <= hi)
                return '0' + d;
            if (fallback < 0)
                fallback = '0' + d;
        }
    return fallback;
}

static int close_value(const struct constraint *c, const struct constraint_frame *f);

/* How a fresh value of this node begins. */
static int close_start(const struct constraint *c, int32_t node)
{
    const struct constraint_frame fresh = {.node = (int16_t)node, .phase = START};
    return close_value(c, &fresh);
}

/* The next byte on the way to close frame f itself; -1: f can end and the frame below goes on. */
static int close_value(const struct constraint *c, const struct constraint_frame *f)
{
    const struct schema_node *n = node_of(c, f);
    switch (n->kind) {
    case SCHEMA_OBJECT: {
        if (f->phase == START)
            return '{';
        const int32_t next = next_property(f), wanted = first_required(n, next);
        if (f->phase == KEY) { /* to the required property, if what is written can still become it */
            const struct schema_text *key = &n->properties[candidate(f)].key;
            if (wanted < n->n_properties && n->properties[wanted].key.n > f->count &&
                memcmp(n->properties[wanted].key.bytes, key->bytes, (size_t)f->count) == 0)
                key = &n->properties[wanted].key;
            return (uint8_t)key->bytes[f->count];
        }
        if (f->phase == COMMA)
            return (uint8_t)n->properties[wanted < n->n_properties ? wanted : next].key.bytes[0];
        if (wanted == n->n_properties)
            return '}';
        return f->phase == AFTER ? ',' : (uint8_t)n->properties[wanted].key.bytes[0];
    }
    case SCHEMA_ARRAY:
        if (f->phase == START)
            return '[';
        if (f->phase != COMMA && f->count >= n->min_count)
            return ']';
        return f->phase == AFTER ? ',' : close_start(c, n->item);
    case SCHEMA_STRING:
        if (f->phase == ESCAPE)
            return 'n';
        if (f->phase == UTF8)
            return (int)(f->value & 0xFF);
        return f->phase == START || f->count >= n->min_count ? '"' : 'a';
    case SCHEMA_INTEGER:
        if (integer_can_end(n, f))
            return -1;
        if (f->phase == START && n->max < 0)
            return '-';
        return close_digit(n, f);
    case SCHEMA_NUMBER:
        if (number_can_end(f))
            return -1;
        /* -0 is no number here: a digit behind the point makes it one */
        return f->phase == CONTENT && f->count > 0 ? '.' : '1';
    case SCHEMA_LITERAL:
        if (literal_complete(n, f) >= 0)
            return -1;
        return (uint8_t)n->alternatives[f->phase == START ? 0 : f->value].bytes[f->phase == START ? 0 : f->count];
    }
    return -1;
}

int constraint_close_byte(const struct constraint *c)
{
    for (int d = c->depth - 1; d >= 0; d--) {
        const struct constraint_frame *f = &c->frames[d];
        struct constraint_frame as_after;
        if (d < c->depth - 1) { /* the value above ended here */
            as_after = *f;
            as_after.phase = AFTER;
            if (node_of(c, f)->kind == SCHEMA_ARRAY)
                as_after.count++;
            f = &as_after;
        }
        const int byte = close_value(c, f);
        if (byte >= 0)
            return byte;
    }
    return -1;
}

/* ---- tokens -------------------------------------------------------------------------------------------------------------------------------- */

struct constraint_vocab {
    const struct token_trie *trie;
    int32_t n_words; /* of a mask */
    uint32_t *plain; /* tokens that are whole code points of string content: no quote, backslash or control character */
    uint8_t *points; /* [n_tokens] code points of a plain token, 255 at most */
    int32_t max_points;
    bool *is_plain;          /* [nodes of the trie] all tokens at and below are plain */
    struct constraint *walk; /* [max_depth + 1] */
    uint8_t *close;          /* [SCHEMA_CLOSE_MAX] the way to close */
};

int constraint_vocab_create(const struct token_trie *trie, int32_t n_tokens, struct constraint_vocab **ret_vocab,
                            struct err *err)
{
    struct constraint_vocab *v = calloc(1, sizeof *v);
    if (!v)
        return err_set(err, ERR_NOMEM, "out of memory: constrained decoding");
    v->trie = trie;
    v->n_words = (n_tokens + 31) / 32;
    v->plain = calloc((size_t)v->n_words + 1, sizeof *v->plain);
    v->points = calloc((size_t)n_tokens + 1, 1);
    v->is_plain = calloc(trie->n_nodes, sizeof *v->is_plain);
    v->walk = calloc((size_t)trie->max_depth + 1, sizeof *v->walk);
    v->close = malloc(SCHEMA_CLOSE_MAX);

    uint8_t *left = calloc(3, (size_t)trie->max_depth + 1), *lo = left ? left + trie->max_depth + 1 : NULL;
    int32_t *points = calloc((size_t)trie->max_depth + 1, sizeof *points);
    uint8_t *hi = lo ? lo + trie->max_depth + 1 : NULL;
    if (!v->plain || !v->points || !v->is_plain || !v->walk || !v->close || !left || !points) {
        free(left);
        free(points);
        constraint_vocab_free(v);
        return err_set(err, ERR_NOMEM, "out of memory: constrained decoding over %d tokens", n_tokens);
    }
    for (uint32_t i = 1; i < trie->n_nodes;) {
        const struct token_trie_node *node = &trie->nodes[i];
        const uint32_t d = node->depth;
        bool ok;
        if (left[d - 1]) {
            ok = node->byte >= lo[d - 1] && node->byte <= hi[d - 1];
            left[d] = (uint8_t)(left[d - 1] - 1);
            lo[d] = 0x80;
            hi[d] = 0xBF;
        } else {
            ok = node->byte >= 0x20 && node->byte != 0x7F && node->byte != '"' && node->byte != '\\' &&
                 utf8_lead(node->byte, &left[d], &lo[d], &hi[d]);
        }
        points[d] = points[d - 1] + (left[d] == 0);
        if (!ok) {
            i = node->end;
            continue;
        }
        if (node->token >= 0 && node->token < n_tokens && left[d] == 0 && points[d] < 255) {
            v->plain[node->token / 32] |= 1u << node->token % 32;
            v->points[node->token] = (uint8_t)points[d];
            if (points[d] > v->max_points)
                v->max_points = points[d];
        }
        i++;
    }
    free(left);
    free(points);
    /* preorder backwards: a node's children are decided before it */
    for (uint32_t i = trie->n_nodes; i-- > 1;) {
        const struct token_trie_node *node = &trie->nodes[i];
        bool plain = node->token < 0 || (v->plain[node->token / 32] >> node->token % 32 & 1);
        for (uint32_t child = i + 1; plain && child < node->end; child = trie->nodes[child].end)
            plain = v->is_plain[child];
        v->is_plain[i] = plain;
    }
    *ret_vocab = v;
    return 0;
}

void constraint_vocab_free(struct constraint_vocab *v)
{
    if (!v)
        return;
    free(v->plain);
    free(v->points);
    free(v->is_plain);
    free(v->walk);
    free(v->close);
    free(v);
}

/* The way to close into v->close; its length, or -1 where it is longer than that. */
static int32_t write_close(struct constraint_vocab *v, const struct constraint *from)
{
    struct constraint c;
    constraint_copy(&c, from);
    int32_t n = 0;
    for (int byte; !c.is_done && (byte = constraint_close_byte(&c)) >= 0; n++) {
        if (n == SCHEMA_CLOSE_MAX)
            return -1;
        v->close[n] = (uint8_t)byte;
        const bool ok = constraint_advance(&c, (uint8_t)byte);
        assert(ok); /* the way to close is a way */
        (void)ok;
    }
    return n;
}

int32_t constraint_close_tokens(struct constraint_vocab *v, const struct constraint *from)
{
    const int32_t n = write_close(v, from);
    struct constraint c, probe, best;
    constraint_copy(&c, from);
    int32_t tokens = 0;
    for (int32_t at = 0; at < n; tokens++) {
        /* the longest token that spells what comes next and decides no choice from outside it */
        constraint_copy(&probe, &c);
        constraint_mark(&probe);
        uint32_t node = 0;
        int32_t best_end = at;
        for (int32_t i = at; i < n; i++) {
            node = token_trie_child(v->trie, node, v->close[i]);
            if (!node || !constraint_advance(&probe, v->close[i]) || probe.entered)
                break;
            if (v->trie->nodes[node].token >= 0) {
                best_end = i + 1;
                constraint_copy(&best, &probe);
            }
        }
        if (best_end == at)
            return INT32_MAX; /* a vocabulary without single bytes: refused when the job is made */
        at = best_end;
        constraint_copy(&c, &best);
    }
    return n < 0 ? INT32_MAX : tokens;
}

/* Whether from state c, reached by a token, at most `left` tokens close it. */
static bool closes_within(struct constraint_vocab *v, const struct constraint *c, int32_t left)
{
    /* bytes are an upper bound of tokens: most states are decided by them */
    struct constraint probe;
    constraint_copy(&probe, c);
    int32_t n = 0;
    for (int byte; !probe.is_done && (byte = constraint_close_byte(&probe)) >= 0 && n <= left; n++)
        constraint_advance(&probe, (uint8_t)byte);
    if (n <= left)
        return true;
    return constraint_close_tokens(v, c) <= left;
}

/*
 * Plain tokens inside a string: only the number of their code points matters, for what is left to the least length and for the room to the longest.
 * So they are decided by that number, not one by one.
 */
static void mask_plain(struct constraint_vocab *v, const struct constraint *c, int32_t remaining, uint32_t *mask)
{
    const struct constraint_frame *f = top_const(c);
    const struct schema_node *n = node_of(c, f);
    const int32_t room = n->max_count - f->count, missing = n->min_count - f->count;
    bool fits[256] = {false}, all = room >= v->max_points;
    struct constraint state;
    constraint_copy(&state, c);
    for (int32_t points = 1; points <= v->max_points && points <= room; points++) {
        top(&state)->count = f->count + points;
        fits[points] = points == 1 || points <= missing ? closes_within(v, &state, remaining - 1) : fits[points - 1];
        all = all && fits[points];
    }
    if (all) {
        memcpy(mask, v->plain, (size_t)v->n_words * sizeof *mask);
        return;
    }
    for (int32_t t = 0; t < v->n_words * 32; t++)
        if (v->plain[t / 32] >> t % 32 & 1 && fits[v->points[t]])
            mask[t / 32] |= 1u << t % 32;
}

void constraint_mask(struct constraint_vocab *v, const struct constraint *c, int32_t remaining, uint32_t *mask)
{
    memset(mask, 0, (size_t)v->n_words * sizeof *mask);
    const struct token_trie *trie = v->trie;
    const struct constraint_frame *f = top_const(c);
    const bool in_string = node_of(c, f)->kind == SCHEMA_STRING && f->phase == CONTENT;
    if (in_string)
        mask_plain(v, c, remaining, mask);
    constraint_copy(&v->walk[0], c);
    constraint_mark(&v->walk[0]);
    for (uint32_t i = 1; i < trie->n_nodes;) {
        const struct token_trie_node *node = &trie->nodes[i];
        if (in_string && v->is_plain[i]) { /* decided above */
            i = node->end;
            continue;
        }
        struct constraint *state = &v->walk[node->depth];
        constraint_copy(state, &v->walk[node->depth - 1]);
        if (!constraint_advance(state, node->byte) || state->entered) {
            i = node->end;
            continue;
        }
        const int32_t t = node->token;
        if (t >= 0 && !(in_string && v->plain[t / 32] >> t % 32 & 1) && closes_within(v, state, remaining - 1))
            mask[t / 32] |= 1u << t % 32;
        /* nothing can follow a finished value */
        i = state->is_done ? node->end : i + 1;
    }
}

/* ---- choices ---------------------------------------------------------------------------------------------------------------------------------- */

void verdict_init(struct verdict *v)
{
    *v = (struct verdict){.node = -1};
}

/* Whether a token's bytes, taken where the choice has `matched` bytes, fit alternative a: one is the beginning of the other's rest. */
static bool token_fits(const struct schema_text *a, int32_t matched, const char *bytes, size_t n)
{
    const size_t rest = (size_t)(a->n - matched);
    return memcmp(a->bytes + matched, bytes, n < rest ? n : rest) == 0;
}

/* The choice that is open in state c and can be read, or NULL; which alternatives the bytes so far leave, and how many bytes they are. */
static const struct schema_node *choice_of(const struct constraint *c, bool open[VERDICT_ALTERNATIVES_MAX],
                                           int32_t *ret_matched)
{
    const struct constraint_frame *f = c->depth ? top_const(c) : NULL;
    const struct schema_node *n = f ? node_of(c, f) : NULL;
    if (!n || n->kind != SCHEMA_LITERAL || n->n_alternatives < 2 || n->n_alternatives > VERDICT_ALTERNATIVES_MAX || !n->path)
        return NULL;
    const int32_t matched = f->phase == START ? 0 : f->count;
    for (int32_t a = 0; a < n->n_alternatives; a++)
        open[a] = matched == 0 || (n->alternatives[a].n >= matched &&
                                   memcmp(n->alternatives[a].bytes, n->alternatives[f->value].bytes, (size_t)matched) == 0);
    *ret_matched = matched;
    return n;
}

bool verdict_force(struct verdict *v, const struct constraint *c, const char *bytes, size_t bytes_n, int32_t *ret_chosen)
{
    bool open[VERDICT_ALTERNATIVES_MAX];
    int32_t matched;
    const struct schema_node *n = choice_of(c, open, &matched);
    struct constraint after;
    if (!n || v->node != top_const(c)->node)
        return false;
    constraint_copy(&after, c);
    if (!constraint_take(&after, bytes, bytes_n))
        return false;
    const struct constraint_frame *f = top_const(c);
    if (after.depth >= c->depth && after.frames[c->depth - 1].node == f->node && after.frames[c->depth - 1].phase == CONTENT &&
        after.frames[c->depth - 1].count == matched + (int32_t)bytes_n)
        return false; /* still open */
    int32_t best = -1;
    for (int32_t a = 0; a < n->n_alternatives; a++)
        if (open[a] && n->alternatives[a].n - matched <= (int32_t)bytes_n &&
            token_fits(&n->alternatives[a], matched, bytes, bytes_n) &&
            (best < 0 || n->alternatives[a].n > n->alternatives[best].n))
            best = a;
    if (best < 0) { /* a number that was ended by the byte behind it */
        best = literal_complete(n, f);
        if (best < 0)
            return false;
    }
    double sum = 0;
    v->p[best] += v->left; /* mass that was kept together and came to its end here */
    v->left = 0;
    for (int32_t a = 0; a < n->n_alternatives; a++)
        sum += v->p[a];
    for (int32_t a = 0; sum > 0 && a < n->n_alternatives; a++)
        v->p[a] /= sum;
    *ret_chosen = best;
    return true;
}

/* Which of the open alternatives a token fits; how many. One that is complete is ended by what continues no other. */
static int32_t find_fits(const struct schema_node *n, const bool *open, int32_t matched, const char *bytes, size_t bytes_n,
                         bool *fits)
{
    int32_t n_fits = 0;
    for (int32_t a = 0; a < n->n_alternatives; a++) {
        fits[a] = open[a] && n->alternatives[a].n > matched && token_fits(&n->alternatives[a], matched, bytes, bytes_n);
        n_fits += fits[a];
    }
    for (int32_t a = 0; a < n->n_alternatives && n_fits == 0; a++) {
        fits[a] = open[a] && n->alternatives[a].n == matched;
        n_fits += fits[a];
    }
    return n_fits;
}

bool verdict_observe(struct verdict *v, struct constraint_vocab *vocab, const struct constraint *c, const uint32_t *mask,
                     int32_t chosen, double (*p_of)(void *ctx, int32_t token), void *ctx,
                     const char *(*bytes_of)(void *ctx, int32_t token, size_t *ret_n), int32_t *ret_chosen)
{
    bool open[VERDICT_ALTERNATIVES_MAX];
    int32_t matched;
    const struct schema_node *n = choice_of(c, open, &matched);
    if (!n)
        return false;
    if (v->node != top_const(c)->node)
        *v = (struct verdict){.node = top_const(c)->node, .left = 1};
    double given[VERDICT_ALTERNATIVES_MAX] = {0}, kept = 0, total = 0;
    for (int32_t t = 0; t < vocab->n_words * 32; t++) {
        if (!(mask[t / 32] >> t % 32 & 1))
            continue;
        size_t bytes_n;
        const char *bytes = bytes_of(ctx, t, &bytes_n);
        bool fits[VERDICT_ALTERNATIVES_MAX];
        const int32_t n_fits = find_fits(n, open, matched, bytes, bytes_n, fits);
        if (n_fits == 0)
            continue;
        const double p = p_of(ctx, t);
        total += p;
        if (n_fits > 1 && t == chosen)
            kept += p;
        else
            for (int32_t a = 0; a < n->n_alternatives; a++)
                given[a] += fits[a] ? p / n_fits : 0;
    }
    if (total > 0) {
        for (int32_t a = 0; a < n->n_alternatives; a++)
            v->p[a] += v->left * given[a] / total;
        v->left *= kept / total;
    }
    size_t bytes_n;
    const char *bytes = bytes_of(ctx, chosen, &bytes_n);
    return verdict_force(v, c, bytes, bytes_n, ret_chosen);
}
