#include "appliance/load_bar.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

#define DRAW_NS (200 * CLOCK_MS)
#define BAR_MAX 30

/* Columns of the terminal; 80 where it does not tell. */
static int columns_of(int fd)
{
    struct winsize size = {0};
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void span_text(double seconds, char out[32])
{
    if (seconds < 99.5)
        snprintf(out, 32, "%.0f s", seconds);
    else
        snprintf(out, 32, "%.0f min", seconds / 60 < 1e6 ? seconds / 60 : 1e6);
}

void load_bar_text(uint64_t done, uint64_t total, int64_t elapsed_ns, int columns, char *out, size_t cap)
{
    static const char marks[BAR_MAX + 1] = "##############################";
    char figures[160], left[32];
    const double part = total ? (double)done / (double)total : 1;
    const double rate = elapsed_ns > 0 ? (double)done / ((double)elapsed_ns / 1e9) : 0;
    int n =
        snprintf(figures, sizeof figures, "%3d %% of %.2f GB, %.2f GB/s", (int)(100 * part), (double)total / 1e9, rate / 1e9);
    if (rate > 0) {
        span_text((double)(total - done) / rate, left);
        n += snprintf(figures + n, sizeof figures - (size_t)n, ", %s left", left);
    }
    int width = columns - n - (int)strlen("loading [] ");
    width = width > BAR_MAX ? BAR_MAX : width;
    const int full = (int)(part * width);
    if (width >= 5)
        snprintf(out, cap, "loading [%.*s%*s] %s", full, marks, width - full, "", figures);
    else
        snprintf(out, cap, "%.*s", columns < 0 ? 0 : columns, figures);
}

void load_bar_begin(struct load_bar *bar, int fd)
{
    const int64_t now = clock_now_ns();
    *bar = (struct load_bar){.fd = isatty(fd) ? fd : -1, .begin_ns = now, .last_ns = now};
}

void load_bar_show(struct load_bar *bar, uint64_t done, uint64_t total)
{
    char line[256];
    const int64_t now = clock_now_ns();
    if (bar->fd < 0 || now - bar->last_ns < DRAW_NS)
        return;
    bar->last_ns = now;
    bar->is_drawn = true;
    load_bar_text(done, total, now - bar->begin_ns, columns_of(bar->fd) - 1, line, sizeof line);
    dprintf(bar->fd, "\r%s\033[K", line);
}

void load_bar_end(struct load_bar *bar)
{
    if (bar->is_drawn)
        dprintf(bar->fd, "\r\033[K");
    bar->is_drawn = false;
}
