#include "appliance/ring.h"

#include <ctype.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/queue.h"

#define NUMBER_DIGITS 12 /* 30,000 years of seconds */
#define RETRY_NS      (60 * CLOCK_S)
#define CLOSE_NS      (1 * CLOCK_S)

struct line {
    char text[RING_LINE];
};

struct ring {
    /* immutable after opening */
    char *path;
    uint64_t n_lines;
    struct queue queue;
    pthread_t thread;
    /* writer only */
    int fd;
    uint64_t next;
    int64_t retry_ns;
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool is_done, is_abandoned;
    uint64_t lost;
    char why[512];
};

/* Number of a line, 0: it is none of ours. */
static uint64_t number_of(const char *line)
{
    uint64_t n = 0;
    for (int i = 0; i < NUMBER_DIGITS; i++) {
        if (!isdigit((unsigned char)line[i]))
            return 0;
        n = 10 * n + (uint64_t)(line[i] - '0');
    }
    return line[NUMBER_DIGITS] == ' ' && line[RING_LINE - 1] == '\n' ? n : 0;
}

/* One more than the largest number in the file. */
static uint64_t find_next(const struct ring *r)
{
    char block[64 * RING_LINE];
    uint64_t most = 0;
    ssize_t got;
    for (off_t at = 0; (got = pread(r->fd, block, sizeof block, at)) >= RING_LINE; at += got - got % RING_LINE)
        for (ssize_t i = 0; i + RING_LINE <= got; i += RING_LINE) {
            const uint64_t n = number_of(block + i);
            most = n > most ? n : most;
        }
    return most + 1;
}

static void lose(struct ring *r, const char *what)
{
    struct err err = {0};
    err_set_errno(&err, ERR_IO, "%s: %s", r->path, what);
    pthread_mutex_lock(&r->lock);
    r->lost++;
    snprintf(r->why, sizeof r->why, "%s", err.text);
    pthread_mutex_unlock(&r->lock);
}

static void write_line(struct ring *r, const struct line *line)
{
    if (r->fd < 0 && clock_now_ns() >= r->retry_ns) {
        r->fd = open(r->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        r->retry_ns = clock_now_ns() + RETRY_NS;
        r->next = r->fd >= 0 ? find_next(r) : 0;
    }
    if (r->fd < 0) {
        lose(r, "cannot be opened");
        return;
    }
    char full[RING_LINE + 1];
    const int head = snprintf(full, sizeof full, "%0*llu ", NUMBER_DIGITS, (unsigned long long)r->next);
    snprintf(full + head, sizeof full - (size_t)head, "%-*.*s\n", RING_LINE - head - 1, RING_LINE - head - 1, line->text);
    const off_t at = (off_t)((r->next - 1) % r->n_lines) * RING_LINE;
    if (pwrite(r->fd, full, RING_LINE, at) != RING_LINE || fdatasync(r->fd) != 0) {
        lose(r, "cannot be written");
        close(r->fd);
        r->fd = -1;
        return;
    }
    r->next++;
}

static void ring_free(struct ring *r)
{
    if (r->fd >= 0)
        close(r->fd);
    queue_release(&r->queue);
    pthread_cond_destroy(&r->ended);
    pthread_mutex_destroy(&r->lock);
    free(r->path);
    free(r);
}

static void *ring_main(void *arg)
{
    struct ring *r = arg;
    struct line line;
    while (queue_pop(&r->queue, &line, -1) == 0)
        write_line(r, &line);
    pthread_mutex_lock(&r->lock);
    r->is_done = true;
    const bool is_abandoned = r->is_abandoned;
    pthread_cond_signal(&r->ended);
    pthread_mutex_unlock(&r->lock);
    if (is_abandoned)
        ring_free(r);
    return NULL;
}

int ring_open(const char *path, uint64_t n_lines, struct ring **ret_ring, struct err *err)
{
    struct ring *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ERR_NOMEM, "out of memory: the ring file");
    r->fd = -1;
    r->n_lines = n_lines ? n_lines : RING_LINES;
    r->path = strdup(path);
    pthread_mutex_init(&r->lock, NULL);
    clock_cond_init(&r->ended);
    int rc = queue_init(&r->queue, sizeof(struct line), RING_QUEUE, QUEUE_DROP_OLDEST, NULL, NULL, err);
    if (rc == 0 && !r->path)
        rc = err_set(err, ERR_NOMEM, "out of memory: the ring file's path");
    if (rc == 0 && pthread_create(&r->thread, NULL, ring_main, r) != 0)
        rc = err_set(err, ERR_IO, "cannot start the thread of the ring file");
    if (rc != 0) {
        ring_free(r);
        return rc;
    }
    pthread_setname_np(r->thread, "heron-ring");
    *ret_ring = r;
    return 0;
}

void ring_push(struct ring *r, const char *text)
{
    struct line line;
    size_t n = strnlen(text, sizeof line.text - 1);
    memcpy(line.text, text, n);
    line.text[n] = 0;
    for (size_t i = 0; i < n; i++)
        if (line.text[i] == '\n')
            line.text[i] = ' ';
    queue_push(&r->queue, &line);
}

uint64_t ring_lost(struct ring *r, char *ret_why, size_t cap)
{
    pthread_mutex_lock(&r->lock);
    const uint64_t lost = r->lost + queue_dropped(&r->queue);
    snprintf(ret_why, cap, "%s", r->why);
    pthread_mutex_unlock(&r->lock);
    return lost;
}

void ring_close(struct ring *r)
{
    if (!r)
        return;
    queue_close(&r->queue);
    const int64_t until_ns = clock_system_ns() + CLOSE_NS;
    pthread_mutex_lock(&r->lock);
    while (!r->is_done && clock_cond_wait_until(&r->ended, &r->lock, until_ns))
        ;
    const bool is_done = r->is_done;
    r->is_abandoned = !is_done;
    if (!is_done)
        pthread_detach(r->thread); /* under the lock: once it is free the writer may end and take everything with it */
    pthread_mutex_unlock(&r->lock);
    if (!is_done)
        return;
    pthread_join(r->thread, NULL);
    ring_free(r);
}
