/* decoder - the lists, and what this process learnt about their entries. */
#include "pipeline/decoder.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>

#define MAX_ENTRIES 8

/* under lock */
struct decoder {
    const char *launch;
    bool is_missing, is_bad, is_proven;
};

struct list {
    const char *codec;
    const char *const *builtin;
    struct decoder entry[MAX_ENTRIES];
    int n_entries; /* 0: not filled yet */
};

/*
 * One thread and no frame threading: a camera's decoder must not hold pictures back, and with many cameras the processor is busy
 * anyway. Software is the tested baseline; an accelerator goes in front of it once it has been measured on its machine.
 */
static const char *const decoder_h264[] = {"avdec_h264 max-threads=1", "openh264dec", NULL};
static const char *const decoder_h265[] = {"avdec_h265 max-threads=1", NULL};
static const char *const decoder_mjpeg[] = {"avdec_mjpeg max-threads=1", "jpegdec", NULL};

static struct list decoder_lists[] = {
    {.codec = "h264", .builtin = decoder_h264},
    {.codec = "h265", .builtin = decoder_h265},
    {.codec = "mjpeg", .builtin = decoder_mjpeg},
};
static pthread_mutex_t decoder_lock = PTHREAD_MUTEX_INITIALIZER;

/* under lock */
static void decoder_fill(struct list *list, const char *const *launch)
{
    list->n_entries = 0;
    for (int i = 0; launch[i] && i < MAX_ENTRIES; i++)
        list->entry[list->n_entries++] = (struct decoder){.launch = launch[i]};
}

static struct list *decoder_list(const char *codec)
{
    for (size_t i = 0; i < sizeof decoder_lists / sizeof decoder_lists[0]; i++)
        if (strcmp(decoder_lists[i].codec, codec) == 0)
            return &decoder_lists[i];
    return NULL;
}

struct decoder *decoder_pick(const char *codec)
{
    struct decoder *found = NULL;
    pthread_mutex_lock(&decoder_lock);
    struct list *list = decoder_list(codec);
    if (list && !list->n_entries)
        decoder_fill(list, list->builtin);
    for (int i = 0; list && !found && i < list->n_entries; i++)
        if (!list->entry[i].is_missing && !list->entry[i].is_bad)
            found = &list->entry[i];
    if (list && !found)
        for (int i = 0; i < list->n_entries; i++)
            list->entry[i].is_bad = false;
    pthread_mutex_unlock(&decoder_lock);
    return found;
}

const char *decoder_launch(const struct decoder *decoder)
{
    return decoder->launch; /* set once, before anybody could pick it */
}

void decoder_mark_missing(struct decoder *decoder)
{
    pthread_mutex_lock(&decoder_lock);
    decoder->is_missing = true;
    pthread_mutex_unlock(&decoder_lock);
}

void decoder_mark_good(struct decoder *decoder)
{
    pthread_mutex_lock(&decoder_lock);
    decoder->is_proven = true;
    pthread_mutex_unlock(&decoder_lock);
}

bool decoder_mark_bad(struct decoder *decoder)
{
    pthread_mutex_lock(&decoder_lock);
    bool is_bad = !decoder->is_proven;
    decoder->is_bad = is_bad;
    pthread_mutex_unlock(&decoder_lock);
    return is_bad;
}

void decoder_set_list(const char *codec, const char *const *launch)
{
    pthread_mutex_lock(&decoder_lock);
    struct list *list = decoder_list(codec);
    if (list)
        decoder_fill(list, launch ? launch : list->builtin);
    pthread_mutex_unlock(&decoder_lock);
}
