/*
 * control - the local socket on which a running daemon answers: one JSON object a line each way.
 *
 *   {"command":"status"}  ->  the overview of payload.h
 *   {"command":"reload"}  ->  {"ok":true} or {"ok":false,"error":"..."}
 *
 * A UNIX stream socket, mode 0660, in the runtime directory: $RUNTIME_DIRECTORY, else /run/heron where it can be written, else
 * $XDG_RUNTIME_DIR/heron, else /tmp/heron-UID (created 0700; refused when it belongs to somebody else). Only one daemon owns it: a lock
 * file beside it is held for the process's life.
 *
 * Server: control_open -> poll control_fd -> control_step -> control_close. At most CONTROL_CLIENTS_MAX clients are served at a time, the
 * others wait in the kernel's queue. One that has not sent a whole line, or not taken its reply, within ten seconds is closed; so
 * is one that sends more than CONTROL_LINE_MAX. One request of each client is answered per step. Never blocks.
 * Threads: one owner. Memory: fixed buffers, and the reply's text.
 */
#ifndef HERON_APPLIANCE_CONTROL_H
#define HERON_APPLIANCE_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CONTROL_CLIENTS_MAX 8
#define CONTROL_LINE_MAX    4096 /* of a request */
#define CONTROL_COMMAND_MAX 64   /* with its NUL */
#define CONTROL_REPLY_MAX   (16 << 20)

struct control;

/*
 * The "command" of a request line of n bytes, without its newline. Other keys are left for later versions. Errors: ERR_FORMAT with what is
 * wrong; ret_command is untouched then.
 */
int control_parse(const char *line, size_t n, char ret_command[CONTROL_COMMAND_MAX], struct err *err);

/* Answer one request: command is its "command". Returns malloc'ed JSON without newline (control frees it), NULL: out of memory. */
typedef char *(*control_fn)(void *ctx, const char *command);

/*
 * path: of the socket; NULL: heron.sock in the runtime directory, which is made. Errors: ERR_STATE (a daemon runs already: its process id),
 * ERR_IO (the directory or socket, by name), ERR_INVAL (the path is too long for a socket), ERR_NOMEM.
 */
int control_open(const char *path, control_fn handle, void *ctx, struct control **ret_control, struct err *err);
void control_close(struct control *control);

/* One epoll descriptor for everything inside: readable when control_step has something to do. */
int control_fd(const struct control *control);
void control_step(struct control *control);

/* When idle clients are next due to be closed, monotonic; INT64_MAX: none. */
int64_t control_next_ns(const struct control *control);

const char *control_path(const struct control *control);

/*
 * Client: send a command to the daemon at `path` (NULL: look where a daemon of this user, then where one of the system
 * would be) and wait for its line. Malloc'ed, a JSON object without newline. Errors: ERR_NOT_FOUND (no daemon runs: where it was looked for), ERR_IO
 * (no permission; the connection broke), ERR_TIMEOUT (it does not answer within timeout_ns), ERR_FORMAT, ERR_INVAL, ERR_NOMEM.
 */
int control_ask(const char *path, const char *command, int64_t timeout_ns, char **ret_reply, struct err *err);

#endif
