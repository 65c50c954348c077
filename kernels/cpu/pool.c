/* pool - worker threads with a shared item counter; see pool.h. */
#include "kernels/cpu/pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define POOL_MAX_THREADS 1024
/* How long a thread looks for work before it sleeps: longer than the serial part between two ops of a step, shorter than
 * anything a scheduler notices. */
#define POOL_SPIN_NS 30000

struct worker {
    struct pool *pool;
    pthread_t handle;
    int index; /* 1 .. threads - 1 */
};

struct pool {
    /*
     * The job. `ticket` is (run number << 32 | items left to take). Who lowers the count owns one item, and as long as an
     * owned item is not done the run cannot end: so the fields below may be read by owners only, and are written only between
     * runs.
     */
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) _Atomic int32_t left;  /* items not done */
    _Alignas(64) _Atomic uint32_t wake; /* futex of sleeping workers: changes with every run */
    _Atomic int32_t sleepers;
    _Atomic uint32_t done; /* futex of the caller: run number of the last completed run */
    _Atomic bool stop;
    pool_fn fn;
    void *ctx;
    int32_t n_items;
    uint32_t run;

    pthread_mutex_t busy; /* held during a run with workers */
    int threads;
    int started;
    struct worker *workers;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
    syscall(SYS_futex, (uint32_t *)word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
    syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Take and do items until none is left. */
static void work(struct pool *p, int thread)
{
    uint64_t t = atomic_load_explicit(&p->ticket, memory_order_relaxed);
    while ((uint32_t)t) {
        if (!atomic_compare_exchange_weak_explicit(&p->ticket, &t, t - 1, memory_order_acquire, memory_order_relaxed))
            continue;
        uint32_t run = (uint32_t)(t >> 32);
        p->fn(p->ctx, p->n_items - (int32_t)(uint32_t)t, thread);
        if (atomic_fetch_sub_explicit(&p->left, 1, memory_order_acq_rel) == 1) {
            atomic_store_explicit(&p->done, run, memory_order_release);
            if (thread)
                futex_wake(&p->done, 1);
        }
        t = atomic_load_explicit(&p->ticket, memory_order_relaxed);
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    char name[16];
    snprintf(name, sizeof name, "heron-cpu-%d", w->index);
    pthread_setname_np(pthread_self(), name);

    uint32_t seen = 0;
    while (!atomic_load_explicit(&p->stop, memory_order_acquire)) {
        work(p, w->index);
        int64_t until = now_ns() + POOL_SPIN_NS;
        bool found = false;
        do {
            for (int i = 0; i < 64 && !found; i++) {
                relax();
                found = atomic_load_explicit(&p->wake, memory_order_relaxed) != seen;
            }
        } while (!found && now_ns() < until);
        if (!found) {
            /* Say "asleep" first, look again, sleep: pool_run does the reverse, so one of the two sees the other. */
            atomic_fetch_add(&p->sleepers, 1);
            if (atomic_load(&p->wake) == seen)
                futex_wait(&p->wake, seen);
            atomic_fetch_sub(&p->sleepers, 1);
        }
        seen = atomic_load_explicit(&p->wake, memory_order_acquire);
    }
    return NULL;
}

int pool_open(int threads, struct pool **ret_pool, struct err *err)
{
    if (threads == 0) {
        cpu_set_t set;
        threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
        if (threads > POOL_MAX_THREADS)
            threads = POOL_MAX_THREADS;
        if (threads < 1)
            threads = 1;
    }
    if (threads < 1 || threads > POOL_MAX_THREADS)
        return err_set(err, ERR_INVAL, "%d worker threads were asked for; 1 to %d are possible", threads, POOL_MAX_THREADS);

    struct pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    if (!p)
        return err_set(err, ERR_NOMEM, "no memory for a pool of %d threads", threads);
    *p = (struct pool){.threads = threads};
    pthread_mutex_init(&p->busy, NULL);
    p->workers = calloc((size_t)threads, sizeof *p->workers);
    if (!p->workers) {
        err_set(err, ERR_NOMEM, "no memory for a pool of %d threads", threads);
        goto fail;
    }
    for (int i = 1; i < threads; i++) {
        p->workers[i] = (struct worker){.pool = p, .index = i};
        int rc = pthread_create(&p->workers[i].handle, NULL, worker_main, &p->workers[i]);
        if (rc) {
            errno = rc;
            err_set_errno(err, ERR_IO, "worker thread %d of %d cannot be created", i, threads);
            goto fail;
        }
        p->started = i;
    }
    *ret_pool = p;
    return 0;
fail:
    pool_close(p);
    return err ? err->code : ERR_NOMEM;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    atomic_store(&p->stop, true);
    atomic_fetch_add(&p->wake, 1);
    futex_wake(&p->wake, INT_MAX);
    for (int i = 1; i <= p->started; i++)
        pthread_join(p->workers[i].handle, NULL);
    pthread_mutex_destroy(&p->busy);
    free(p->workers);
    free(p);
}

int pool_threads(const struct pool *p)
{
    return p->threads;
}

void pool_run(struct pool *p, int32_t n_items, pool_fn fn, void *ctx)
{
    if (n_items <= 0)
        return;
    if (n_items == 1 || p->threads == 1 || pthread_mutex_trylock(&p->busy)) {
        for (int32_t i = 0; i < n_items; i++)
            fn(ctx, i, 0);
        return;
    }
    uint32_t run = ++p->run;
    p->fn = fn;
    p->ctx = ctx;
    p->n_items = n_items;
    atomic_store_explicit(&p->left, n_items, memory_order_relaxed);
    atomic_store_explicit(&p->ticket, (uint64_t)run << 32 | (uint32_t)n_items, memory_order_release);
    atomic_fetch_add(&p->wake, 1);
    if (atomic_load(&p->sleepers))
        futex_wake(&p->wake, n_items - 1 < p->threads - 1 ? n_items - 1 : p->threads - 1);

    work(p, 0);

    int64_t until = 0;
    for (;;) {
        uint32_t d = atomic_load_explicit(&p->done, memory_order_acquire);
        if (d == run)
            break;
        for (int i = 0; i < 64; i++)
            relax();
        int64_t now = now_ns();
        if (!until)
            until = now + POOL_SPIN_NS;
        else if (now > until)
            futex_wait(&p->done, d);
    }
    pthread_mutex_unlock(&p->busy);
}
