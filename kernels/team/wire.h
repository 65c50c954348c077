/*
 * wire - what the two members of a device say to each other: messages of a kind and some bytes over a stream socket, and swaps, in which both send and receive at once.
 *
 * Messages are kept back until they are many, or wire_flush, wire_take or wire_swap. Both ends are of one build on machines of one byte order (team_hello makes sure), so structs
 * travel as they lie in memory.
 *
 * Life cycle: wire_init with a connected socket, which is the wire's from then on -> ... -> wire_release. Threads: one at a time. Memory: two buffers, and room for the longest message taken.
 * Errors: the first one is kept, later calls do nothing and give it again: ERR_DEVICE, with the other end's name; ERR_FORMAT where that is no Heron.
 */
#ifndef HERON_KERNELS_TEAM_WIRE_H
#define HERON_KERNELS_TEAM_WIRE_H

#include <stdint.h>

#include "base/err.h"

struct wire {
    int fd;
    char peer[128]; /* for people: "192.0.2.7:7421", "cpu" */
    unsigned char *out, *in;
    size_t n_out;           /* bytes kept back */
    size_t in_from, in_to;  /* bytes received and not yet taken: in[in_from .. in_to - 1] */
    unsigned char *message; /* payload of the last one taken */
    size_t message_cap;
    int patience_s; /* 0: without end */
    struct err err;
};

int wire_init(struct wire *w, int fd, const char *peer, struct err *err);
void wire_release(struct wire *w); /* closes the socket; takes a zeroed struct */

/* Begin a message of `bytes` bytes; then hand them over by wire_put, in any pieces. */
void wire_begin(struct wire *w, uint32_t kind, size_t bytes);
void wire_put(struct wire *w, const void *data, size_t bytes);
int wire_flush(struct wire *w);

/* The next message; its payload is borrowed until the next call. Flushes, then waits. ret_is_end: the other end is gone, between two messages; may be NULL, then it is an error. */
int wire_take(struct wire *w, uint32_t *ret_kind, const unsigned char **ret_payload, size_t *ret_bytes, bool *ret_is_end);

/*
 * Send head and `mine`, and receive what the other end sends in its swap of the same sizes: head_bytes to their_head, bytes to theirs. Waits up to a minute for a sign of life.
 */
int wire_swap(struct wire *w, const void *head, void *their_head, size_t head_bytes, const void *mine, void *theirs,
              size_t bytes);

/* Connected and listening sockets of "HOST:PORT", "[v6]:PORT". ret_fd. Errors: ERR_INVAL (not such an address), ERR_IO. */
int wire_connect(const char *address, int *ret_fd, struct err *err);
int wire_listen(const char *address, int *ret_fd, struct err *err);
int wire_accept(int listener, int *ret_fd, char *ret_peer, size_t peer_bytes, struct err *err);

#endif
