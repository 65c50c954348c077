#include "appliance/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define MINUTE_NS (60 * CLOCK_S)

/* ---- the last hour ------------------------------------------------------------------------------------------------------- */

static void hour_advance(struct watch_hour *hour, int64_t minute)
{
    if (!hour->has_any || minute - hour->newest >= WATCH_MINUTES) {
        memset(hour->minute, 0, sizeof hour->minute);
    } else {
        for (int64_t m = hour->newest + 1; m <= minute; m++)
            hour->minute[m % WATCH_MINUTES] = 0;
    }
    hour->newest = minute;
    hour->has_any = true;
}

void watch_hour_add(struct watch_hour *hour, int64_t now_ns, uint32_t n)
{
    const int64_t minute = now_ns / MINUTE_NS;
    if (!hour->has_any || minute > hour->newest)
        hour_advance(hour, minute);
    hour->minute[minute % WATCH_MINUTES] += n;
}

uint32_t watch_hour_sum(const struct watch_hour *hour, int64_t now_ns)
{
    uint32_t sum = 0;
    const int64_t minute = now_ns / MINUTE_NS;
    for (int64_t back = 0; hour->has_any && back < WATCH_MINUTES; back++) {
        const int64_t m = hour->newest - back;
        if (m >= 0 && m > minute - WATCH_MINUTES)
            sum += hour->minute[m % WATCH_MINUTES];
    }
    return sum;
}

/* ---- the timer ------------------------------------------------------------------------------------------------------------- */

void watch_init(struct watch *watch, int64_t every_ns, int64_t deadline_ns, int64_t now_ns, int64_t phase_ns)
{
    *watch =
        (struct watch){.every_ns = every_ns, .deadline_ns = deadline_ns, .started_ns = now_ns, .next_ns = now_ns + phase_ns};
}

void watch_retime(struct watch *watch, int64_t every_ns, int64_t deadline_ns, int64_t now_ns)
{
    watch->every_ns = every_ns;
    watch->deadline_ns = deadline_ns;
    watch->started_ns = now_ns;
    if (watch->next_ns > now_ns + every_ns)
        watch->next_ns = now_ns + every_ns;
    if (watch->next_ns < now_ns)
        watch->next_ns = now_ns;
}

static void count_shed(struct watch *watch, int64_t now_ns, int64_t n)
{
    watch->shed += (uint64_t)n;
    watch_hour_add(&watch->shed_hour, now_ns, (uint32_t)n);
}

bool watch_due(struct watch *watch, int64_t now_ns)
{
    if (now_ns < watch->next_ns)
        return false;
    if (watch->is_waiting && !watch->is_at_work)
        return true;
    /* the newest grid point that has passed is the look that is due; those before it went by */
    const int64_t passed = (now_ns - watch->next_ns) / watch->every_ns;
    if (passed > 0) {
        count_shed(watch, now_ns, passed);
        watch->next_ns += passed * watch->every_ns;
    }
    if (!watch->is_at_work)
        return true;
    count_shed(watch, now_ns, 1);
    watch->next_ns += watch->every_ns;
    return false;
}

void watch_look(struct watch *watch, int64_t now_ns)
{
    watch->next_ns = watch->is_waiting ? now_ns + watch->every_ns : watch->next_ns + watch->every_ns;
    watch->is_waiting = false;
    watch->is_at_work = true;
}

void watch_wait(struct watch *watch)
{
    watch->is_waiting = true;
}

void watch_done(struct watch *watch, int64_t capture_ns, int64_t now_ns, int32_t prompt_tokens, int32_t output_tokens)
{
    watch->is_at_work = false;
    watch->observations++;
    watch->last_observation_ns = now_ns;
    watch->prompt_tokens += (uint64_t)prompt_tokens;
    watch->output_tokens += (uint64_t)output_tokens;
    watch->latency_ms[watch->n_latencies++ % WATCH_LATENCIES] = (float)(now_ns - capture_ns) / 1e6F;
    watch->last_error[0] = 0;
}

void watch_shed(struct watch *watch, int64_t now_ns)
{
    watch->is_at_work = false;
    count_shed(watch, now_ns, 1);
}

void watch_fail(struct watch *watch, const char *why)
{
    watch->is_at_work = false;
    watch->failed++;
    snprintf(watch->last_error, sizeof watch->last_error, "%s", why);
}

void watch_cancel(struct watch *watch)
{
    watch->is_at_work = false;
}

/* ---- figures --------------------------------------------------------------------------------------------------------------- */

int64_t watch_window_ns(int64_t every_ns, int64_t deadline_ns)
{
    return 2 * every_ns + deadline_ns;
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double watch_quantile(float *values, int n, double share)
{
    if (n <= 0)
        return 0;
    qsort(values, (size_t)n, sizeof *values, by_value);
    int at = (int)(share * n);
    if ((double)at == share * n && at > 0)
        at--;
    return values[at < n ? at : n - 1];
}

void watch_get(const struct watch *watch, int64_t now_ns, struct payload_watch *ret_stats)
{
    float sorted[WATCH_LATENCIES];
    const int n = watch->n_latencies < WATCH_LATENCIES ? (int)watch->n_latencies : WATCH_LATENCIES;
    memcpy(sorted, watch->latency_ms, (size_t)n * sizeof *sorted);
    *ret_stats = (struct payload_watch){
        .observations = watch->observations,
        .shed = watch->shed,
        .skipped = watch->skipped,
        .failed = watch->failed,
        .prompt_tokens = watch->prompt_tokens,
        .output_tokens = watch->output_tokens,
        .shed_1h = watch_hour_sum(&watch->shed_hour, now_ns),
        .skipped_1h = watch_hour_sum(&watch->skipped_hour, now_ns),
        .last_observation_ns = watch->last_observation_ns,
        .p50_ms = watch_quantile(sorted, n, 0.50),
        .p95_ms = watch_quantile(sorted, n, 0.95),
    };
    snprintf(ret_stats->last_error, sizeof ret_stats->last_error, "%s", watch->last_error);
}
