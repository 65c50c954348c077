/*
 * program - the built `heron` (or another program), run as its user runs it: arguments in, exit status and both outputs out.
 *
 * Life cycle: program_start -> program_await, program_text, program_signal as often as wanted -> program_release, which kills
 * what still runs. For a command that ends by itself program_run does all of it in one call.
 *
 * Both outputs go to files in memory: nothing blocks however much is written, and a daemon's output can be read while it runs.
 * A child dies with the test (PR_SET_PDEATHSIG). The thread that starts a program must outlive it.
 *
 * Threads: one at a time per struct program. Waiting is bounded by time_limit_ms and ends as soon as the program does; sanitizers
 * and shared cores are slow, so be generous.
 */
#ifndef HERON_TESTS_PROGRAM_H
#define HERON_TESTS_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PROGRAM_ARGS_MAX 64
#define PROGRAM_RUNNING  (-1000) /* status of a program that has not ended */

struct program {
    pid_t pid;
    int out_fd, err_fd; /* standard output and standard error, from their beginning */
    int status;         /* exit status, -N where signal N ended it, or PROGRAM_RUNNING */
};

/* What program_run leaves behind; free with program_result_free. */
struct program_result {
    int status; /* as above; PROGRAM_RUNNING: it ran into the time limit and was killed */
    char *out, *err;
    size_t n_out, n_err; /* bytes; both texts have a NUL behind them */
};

/*
 * Path of the heron that lies in the build folder of this test program: /proc/self/exe -> ../../../heron. $HERON_PROGRAM overrides.
 * Static text. Skips nothing and checks nothing: program_start says so when it is missing.
 */
const char *program_heron(void);

/*
 * Start path with args (NULL-terminated, without argv[0]). input goes to standard input (NULL: empty; at most 64 KiB). env: NULL-terminated
 * "KEY=value" texts on top of this process's environment, or NULL. Fails the test where the program cannot be executed.
 */
void program_start(struct program *p, const char *path, const char *const *args, const char *input, const char *const *env);

/* Wait for its end; returns its status, or PROGRAM_RUNNING when the time is over. */
int program_await(struct program *p, int time_limit_ms);

/* Send a signal; nothing where it has ended. */
void program_signal(const struct program *p, int signal);

/* All that was written so far; malloc'ed, NUL-terminated. */
char *program_text(const struct program *p, bool is_stderr);

/* Wait until an output holds `words`; false when the time is over or the program ended without them. */
bool program_await_text(struct program *p, bool is_stderr, const char *words, int time_limit_ms);

/* Kill what still runs, reap it, close both files. Takes a zeroed or released struct. */
void program_release(struct program *p);

/* heron with args, to its end. Returns the result's status. */
int program_run(const char *const *args, const char *input, int time_limit_ms, struct program_result *ret_result);

void program_result_free(struct program_result *r);

/* PROGRAM_ARGS("cameras", "probe", url) */
#define PROGRAM_ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

#endif
