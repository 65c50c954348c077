/*
 * token_trie - byte strings of tokens as a prefix tree, for walking many tokens at once: which tokens may come next under
 * a grammar, and which special token begins at this place of a text.
 *
 * The nodes are one array in preorder, children in ascending order of their byte, so a walk over everything is one pass over
 * memory, and skipping a subtree is one assignment:
 *
 *     for (uint32_t i = 1; i < trie->n_nodes;) {
 *         const struct token_trie_node *node = &trie->nodes[i];
 *         // stack[d] = state of the automaton after d bytes of the path; stack[0] is where it stands now
 *         if (!advance(stack[node->depth - 1], node->byte, &stack[node->depth])) {
 *             i = node->end; // no token below can be allowed
 *             continue;
 *         }
 *         if (node->token >= 0)
 *             allow(node->token);
 *         i++;
 *     }
 *
 * Children of node i by hand: the first is i + 1 if nodes[i].end > i + 1, the sibling after c is nodes[c].end while that is
 * below nodes[i].end; token_trie_child finds one by its byte. Node 0 is the root: depth 0, no byte, no token.
 *
 * Life cycle: token_trie_create -> read -> token_trie_free. Threads: immutable after create. Memory: one block, 12 bytes a
 * node; nothing is borrowed.
 */
#ifndef HERON_ENGINE_TOKEN_TRIE_H
#define HERON_ENGINE_TOKEN_TRIE_H

#include <stdint.h>

#include "base/err.h"

#define TOKEN_TRIE_DEPTH_MAX 4096 /* longest token in bytes; the family's longest has 128 */

struct token_trie_node {
    uint32_t end;   /* one past the last node of this subtree */
    int32_t token;  /* the id whose bytes are the path to here, or -1 */
    uint16_t depth; /* bytes on the path: 1 for the root's children */
    uint8_t byte;   /* the path's last byte */
};

struct token_trie {
    struct token_trie_node *nodes;
    uint32_t n_nodes; /* at least 1, the root */
    int32_t n_tokens;
    uint32_t max_depth;       /* a walk needs max_depth + 1 states */
    uint32_t root_child[256]; /* node of the root's child by byte, 0: none */
};

struct token_trie_entry {
    const unsigned char *bytes;
    uint32_t n_bytes;
    int32_t token; /* >= 0 */
};

/*
 * Build from n entries in any order; they are sorted in place, and the bytes are borrowed for the call. An empty list gives a
 * trie of the root alone. Cost: O(total bytes + n log n).
 * Errors: ERR_FORMAT (an empty string, a string longer than TOKEN_TRIE_DEPTH_MAX, two entries with the same bytes), ERR_NOMEM.
 */
int token_trie_create(struct token_trie_entry *entries, size_t n, struct token_trie **ret_trie, struct err *err);

/* Takes NULL. */
void token_trie_free(struct token_trie *trie);

/* The child of `node` by `byte`, or 0 where there is none (the root is nobody's child). */
static inline uint32_t token_trie_child(const struct token_trie *trie, uint32_t node, uint8_t byte)
{
    if (node == 0)
        return trie->root_child[byte];
    const struct token_trie_node *nodes = trie->nodes;
    for (uint32_t c = node + 1; c < nodes[node].end; c = nodes[c].end)
        if (nodes[c].byte >= byte)
            return nodes[c].byte == byte ? c : 0;
    return 0;
}

#endif
