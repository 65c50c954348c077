#include "engine/token_trie.h"

#include <stdlib.h>
#include <string.h>

static int compare_entries(const void *pa, const void *pb)
{
    const struct token_trie_entry *a = pa, *b = pb;
    const uint32_t n = a->n_bytes < b->n_bytes ? a->n_bytes : b->n_bytes;
    const int c = memcmp(a->bytes, b->bytes, n);
    if (c)
        return c;
    return (a->n_bytes > b->n_bytes) - (a->n_bytes < b->n_bytes);
}

static uint32_t common_prefix(const struct token_trie_entry *a, const struct token_trie_entry *b)
{
    const uint32_t n = a->n_bytes < b->n_bytes ? a->n_bytes : b->n_bytes;
    uint32_t i = 0;
    while (i < n && a->bytes[i] == b->bytes[i])
        i++;
    return i;
}

/* Sorted entries share the nodes of their common prefix; everything after it is new. */
static int count_nodes(const struct token_trie_entry *entries, size_t n, uint64_t *ret_nodes, struct err *err)
{
    uint64_t nodes = 1;
    for (size_t i = 0; i < n; i++) {
        const struct token_trie_entry *e = &entries[i];
        if (e->n_bytes > TOKEN_TRIE_DEPTH_MAX)
            return err_set(err, ERR_FORMAT, "token %d has %u bytes, more than %d", e->token, e->n_bytes, TOKEN_TRIE_DEPTH_MAX);
        const uint32_t shared = i ? common_prefix(e - 1, e) : 0;
        if (shared == e->n_bytes)
            return err_set(err, ERR_FORMAT, "tokens %d and %d are the same bytes", entries[i - 1].token, e->token);
        nodes += e->n_bytes - shared;
    }
    *ret_nodes = nodes;
    return 0;
}

int token_trie_create(struct token_trie_entry *entries, size_t n, struct token_trie **ret_trie, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (entries[i].n_bytes == 0)
            return err_set(err, ERR_FORMAT, "token %d is empty", entries[i].token);
    if (n)
        qsort(entries, n, sizeof(entries[0]), compare_entries);

    uint64_t n_nodes = 0;
    int rc = count_nodes(entries, n, &n_nodes, err);
    if (rc)
        return rc;
    if (n_nodes > UINT32_MAX / 2 || n > INT32_MAX)
        return err_set(err, ERR_FORMAT, "%zu tokens need %llu trie nodes, more than can be addressed", n,
                       (unsigned long long)n_nodes);

    struct token_trie *trie = calloc(1, sizeof(*trie));
    struct token_trie_node *nodes = calloc(n_nodes, sizeof(*nodes));
    uint32_t *path = malloc((TOKEN_TRIE_DEPTH_MAX + 1) * sizeof(*path)); /* node at each depth of the current path */
    if (!trie || !nodes || !path) {
        free(trie);
        free(nodes);
        free(path);
        return err_set(err, ERR_NOMEM, "no memory for a trie of %llu nodes", (unsigned long long)n_nodes);
    }

    uint32_t put = 1, depth = 0;
    nodes[0].token = -1;
    path[0] = 0;
    for (size_t i = 0; i < n; i++) {
        const struct token_trie_entry *e = &entries[i];
        const uint32_t shared = i ? common_prefix(e - 1, e) : 0;
        for (; depth > shared; depth--)
            nodes[path[depth]].end = put;
        while (depth < e->n_bytes) {
            const uint8_t byte = e->bytes[depth++];
            nodes[put] = (struct token_trie_node){.token = -1, .depth = (uint16_t)depth, .byte = byte};
            if (depth == 1)
                trie->root_child[byte] = put;
            path[depth] = put++;
        }
        nodes[path[depth]].token = e->token;
        if (depth > trie->max_depth)
            trie->max_depth = depth;
    }
    for (; depth > 0; depth--)
        nodes[path[depth]].end = put;
    nodes[0].end = put;
    free(path);

    trie->nodes = nodes;
    trie->n_nodes = put;
    trie->n_tokens = (int32_t)n;
    *ret_trie = trie;
    return 0;
}

void token_trie_free(struct token_trie *trie)
{
    if (!trie)
        return;
    free(trie->nodes);
    free(trie);
}
