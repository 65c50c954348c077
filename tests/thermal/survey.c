#include "tests/thermal/survey.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define THREADS_MAX 64

struct job {
    const struct control *control; /* NULL: the oracle */
    enum world_set set;
    uint64_t from;
    int n;
    const double *best;
    double *ret_best;
    struct figures *ret;
    atomic_int next;
};

static void run_one(const struct job *job, int i, float *twin_w)
{
    struct world world;
    world_draw(&world, job->from + (uint64_t)i, job->set);
    if (!job->control) {
        job->ret_best[i] = trial_oracle(&world);
        return;
    }
    struct trial trial = {.control = job->control, .world = &world, .best = job->best[i]};
    struct world twin = world;
    twin.fault = FAULT_NONE;
    if (world.fault != FAULT_NONE) {
        struct figures ignored;
        trial_run(&(struct trial){.control = job->control, .world = &twin, .best = 1, .ret_w = twin_w}, &ignored);
        trial.twin_w = twin_w;
    }
    trial_run(&trial, &job->ret[i]);
}

static void *work(void *ctx)
{
    struct job *job = ctx;
    float *twin_w = malloc(TRIAL_SECONDS * sizeof *twin_w);
    if (!twin_w)
        abort();
    for (int i; (i = atomic_fetch_add(&job->next, 1)) < job->n;)
        run_one(job, i, twin_w);
    free(twin_w);
    return NULL;
}

static void run_all(struct job *job, int threads)
{
    pthread_t ids[THREADS_MAX];
    int n = 0;
    while (n < threads - 1 && n < THREADS_MAX && pthread_create(&ids[n], NULL, work, job) == 0)
        n++;
    work(job);
    for (int i = 0; i < n; i++)
        pthread_join(ids[i], NULL);
}

void survey_oracle(enum world_set set, uint64_t from, int n, int threads, double *ret_best)
{
    struct job job = {.set = set, .from = from, .n = n, .ret_best = ret_best};
    run_all(&job, threads);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Sorts; the value that `share` of them are below. */
static double quantile(double *x, int n, double share)
{
    if (n == 0)
        return NAN;
    qsort(x, (size_t)n, sizeof *x, ascending);
    const int i = (int)(share * n);
    return x[i < n ? i : n - 1];
}

void survey_run(const struct control *control, enum world_set set, uint64_t from, int n, const double *best, int threads,
                struct survey *ret)
{
    *ret = (struct survey){.all = calloc((size_t)n, sizeof *ret->all), .n = n};
    double *column = calloc((size_t)n, sizeof *column);
    if (!ret->all || !column)
        abort();
    struct job job = {.control = control, .set = set, .from = from, .n = n, .best = best, .ret = ret->all};
    run_all(&job, threads);

    int n_back = 0;
    for (int i = 0; i < n; i++) {
        const struct figures *f = &ret->all[i];
        ret->within_share += f->over_k <= 0.5 ? 1.0 / n : 0;
        ret->above_s_per_h += f->above_s / WORLD_HOURS / n;
        ret->share_mean += f->speed / f->best / n;
        ret->changes_per_h += f->changes_per_h / n;
        ret->reversals_per_h += f->reversals_per_h / n;
        ret->probe_reversals_per_h += f->probe_reversals_per_h / n;
        ret->trips += f->trips;
        if (!isnan(f->back_s))
            column[n_back++] = f->back_s;
    }
    ret->back_p50_s = quantile(column, n_back, 0.5);
    ret->back_p95_s = quantile(column, n_back, 0.95);
    for (int i = 0; i < n; i++)
        column[i] = ret->all[i].speed / ret->all[i].best;
    ret->share_p5 = quantile(column, n, 0.05);
    for (int i = 0; i < n; i++)
        column[i] = ret->all[i].over_k;
    ret->over_p50_k = quantile(column, n, 0.5);
    ret->over_p99_k = quantile(column, n, 0.99);
    ret->over_max_k = column[n - 1];
    free(column);
}

void survey_free(struct survey *survey)
{
    free(survey->all);
    survey->all = NULL;
}

int survey_worse(const void *a, const void *b)
{
    const double x = ((const struct figures *)a)->over_k, y = ((const struct figures *)b)->over_k;
    return x > y ? -1 : x < y;
}
