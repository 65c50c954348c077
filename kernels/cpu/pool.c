/* pool - worker threads that share out the items of a run; see pool.h. */
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

/*
 * What a thread has left of a run, as one word: (end << 32 | next). It takes from the front, item by item; who has none left takes the rear half of another's. So a thread mostly walks
 * through neighbours, which memory likes, and none waits while another has much to do.
 */
struct span {
    _Alignas(64) _Atomic uint64_t word;
};

struct pool {
    /*
     * The job. `shares`: how many of its n_shares about equal shares, none of them empty, nobody has taken yet. Who lowers it, or a span's word, owns what it took off, and as long as an
     * owned item is not done the run cannot end: so the fields below may be read by owners only, and are written only between runs. An empty span is written by its own thread alone.
     */
    _Alignas(64) _Atomic uint32_t shares;
    _Alignas(64) _Atomic int32_t left;  /* items not done */
    _Alignas(64) _Atomic uint32_t wake; /* futex of sleeping workers: changes with every run */
    _Atomic int32_t sleepers;
    _Atomic uint32_t done;   /* futex of the caller: run number of the last completed run */
    _Atomic bool is_waiting; /* the caller sleeps, or is about to */
    _Atomic bool stop;
    pool_fn fn;
    void *ctx;
    int32_t n_items, n_shares;
    uint32_t run;
    struct span *spans; /* [threads] */

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

static void set_span(struct span *own, int64_t next, int64_t end)
{
    atomic_store_explicit(&own->word, (uint64_t)end << 32 | (uint64_t)next, memory_order_release);
}

/* A share nobody has taken becomes the thread's own. */
static bool take_share(struct pool *p, int thread)
{
    uint32_t left = atomic_load_explicit(&p->shares, memory_order_relaxed);
    while (left)
        if (atomic_compare_exchange_weak_explicit(&p->shares, &left, left - 1, memory_order_acquire, memory_order_relaxed)) {
            const int64_t n = p->n_items, i = p->n_shares - (int64_t)left;
            set_span(&p->spans[thread], n * i / p->n_shares, n * (i + 1) / p->n_shares);
            return true;
        }
    return false;
}

/* Or else the rear half of what another has left. */
static bool steal(struct pool *p, int thread)
{
    for (int i = 1; i < p->threads; i++) {
        struct span *from = &p->spans[(thread + i) % p->threads];
        uint64_t w = atomic_load_explicit(&from->word, memory_order_relaxed);
        for (;;) {
            const uint32_t next = (uint32_t)w, end = (uint32_t)(w >> 32);
            if (next >= end)
                break;
            const uint32_t half = next + (end - next) / 2;
            if (atomic_compare_exchange_weak_explicit(&from->word, &w, (uint64_t)half << 32 | next, memory_order_acquire,
                                                      memory_order_relaxed)) {
                set_span(&p->spans[thread], half, end);
                return true;
            }
        }
    }
    return false;
}

/* The next item of the thread's own span. -1: none. */
static int32_t take(struct span *own)
{
    uint64_t w = atomic_load_explicit(&own->word, memory_order_relaxed);
    while ((uint32_t)w < (uint32_t)(w >> 32))
        if (atomic_compare_exchange_weak_explicit(&own->word, &w, w + 1, memory_order_acquire, memory_order_relaxed))
            return (int32_t)(uint32_t)w;
    return -1;
}

/* Take and do items until none is left. */
static void work(struct pool *p, int thread)
{
    while (take_share(p, thread) || steal(p, thread)) {
        int32_t n = 0;
        for (int32_t item; (item = take(&p->spans[thread])) >= 0; n++)
            p->fn(p->ctx, item, thread);
        if (n == 0)
            continue; /* all was stolen again: the run may be over */
        const uint32_t run = p->run;
        if (atomic_fetch_sub_explicit(&p->left, n, memory_order_acq_rel) == n) {
            atomic_store(&p->done, run);
            if (atomic_load(&p->is_waiting))
                futex_wake(&p->done, 1);
        }
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
            /* what another was just taking when this thread looked may be there now */
            if (!found && atomic_load_explicit(&p->left, memory_order_relaxed) > 0)
                work(p, w->index);
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
    p->spans = aligned_alloc(64, (size_t)threads * sizeof *p->spans);
    for (int i = 0; p->spans && i < threads; i++)
        atomic_init(&p->spans[i].word, 0);
    if (!p->workers || !p->spans) {
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
    free(p->spans);
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
    p->n_shares = n_items < p->threads ? n_items : p->threads;
    atomic_store_explicit(&p->shares, (uint32_t)p->n_shares, memory_order_release);
    atomic_fetch_add(&p->wake, 1);
    if (atomic_load(&p->sleepers))
        futex_wake(&p->wake, n_items - 1 < p->threads - 1 ? n_items - 1 : p->threads - 1);

    work(p, 0);

    const int64_t until = now_ns() + POOL_SPIN_NS;
    for (uint32_t d; (d = atomic_load_explicit(&p->done, memory_order_acquire)) != run;) {
        relax();
        if (now_ns() > until) {
            /* as with the workers: say it first, look again, sleep */
            atomic_store(&p->is_waiting, true);
            futex_wait(&p->done, d);
            atomic_store(&p->is_waiting, false);
        }
    }
    pthread_mutex_unlock(&p->busy);
}
