/*
 * Real clips as cameras, all at once: frames from each, no stall, nothing that grows.
 *
 * The clips are no part of the project: the folder ../shared/footage beside it, or $HERON_FOOTAGE; without it the test is skipped.
 * It runs for $HERON_FOOTAGE_SECONDS (15), prints its figures, and loops every clip shorter than that.
 */
#include "tests/support/camera_rig.h"

#include <dirent.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define CAMERAS_MAX 8
#define SETTLE_NS   (10 * CLOCK_S) /* pools, decoders and malloc's arenas have their size by then */
#define STALL_NS    (5 * CLOCK_S)  /* a picture is due every 100 ms; the supervisor itself would restart after 3 s */

/*
 * One 768x432 frame leaking per second would be 1 MiB per second; what a clip's new beginning costs for good would show in the end as well.
 * Address sanitizers keep freed memory back to catch its use, and shadow of whatever was touched.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RSS_MARGIN_KB (512 * 1024)
#else
#define RSS_MARGIN_KB 4096
#endif

struct clip {
    struct pl_camera *camera;
    char name[256];
    uint64_t taken, seq;
    int64_t capture_ns, worst_age_ns;
};

static const char *folder(void)
{
    const char *given = getenv("HERON_FOOTAGE");
    return given ? given : "../shared/footage";
}

static int64_t duration_ns(void)
{
    const char *given = getenv("HERON_FOOTAGE_SECONDS");
    const long seconds = given ? strtol(given, NULL, 10) : 15;
    assert_true(seconds > SETTLE_NS / CLOCK_S && seconds <= 86400);
    return seconds * CLOCK_S;
}

static int open_clips(struct clip *clips, int event_fd)
{
    DIR *d = opendir(folder());
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        const size_t length = strlen(e->d_name);
        if (length < 5 || strcmp(e->d_name + length - 4, ".mp4") != 0)
            continue;
        assert_true(n < CAMERAS_MAX);
        struct clip *c = &clips[n++];
        char source[1024], id[16];
        *c = (struct clip){0};
        snprintf(c->name, sizeof c->name, "%.255s", e->d_name);
        snprintf(source, sizeof source, "file:%s/%s", folder(), e->d_name);
        snprintf(id, sizeof id, "clip%d", n);
        const struct pl_timing defaults = {0}; /* as the appliance runs them */
        c->camera = rig_open(&(struct pl_camera_config){
            .id = id, .source = source, .max_pixels = 768 * 432, .event_fd = event_fd, .timing = &defaults});
    }
    if (d)
        closedir(d);
    return n;
}

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Take what waits, looking at it; every frame in order and with a picture in it. */
static void take_frame(struct clip *c, int64_t now)
{
    struct pl_frame *f;
    struct pl_camera_stats s;
    if (pl_camera_take(c->camera, &f) == 0) {
        assert_true(f->seq > c->seq && f->capture_ns >= c->capture_ns && f->capture_ns <= now + CLOCK_S);
        const uint8_t *row = f->image.plane[0] + (size_t)(f->image.height_px / 2) * f->image.stride_bytes[0];
        uint8_t low = 255, high = 0;
        for (int x = 0; x < f->image.width_px * 3; x++) {
            low = row[x] < low ? row[x] : low;
            high = row[x] > high ? row[x] : high;
        }
        assert_true(high - low > 16); /* a real scene has contrast; grey is what a decoder without its key frame gives */
        c->seq = f->seq;
        c->capture_ns = f->capture_ns;
        c->taken++;
        pl_frame_unref(f);
    }
    pl_camera_get_stats(c->camera, &s);
    c->worst_age_ns = s.last_frame_age_ns > c->worst_age_ns ? s.last_frame_age_ns : c->worst_age_ns;
}

static void all_clips_at_once(void **state)
{
    struct clip clips[CAMERAS_MAX];
    const int64_t length_ns = duration_ns();
    const uint32_t leaked_before = pl_leaked_pipelines();
    rig_warm_up(); /* GStreamer's own threads and descriptors stay */
    const int fds_before = rig_count_fds(), threads_before = rig_count_threads();
    const int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int n = open_clips(clips, event_fd);
    if (n == 0) {
        close(event_fd);
        skip_because("no clips in %s ($HERON_FOOTAGE names another folder)", folder());
    }
    const int64_t start_ns = clock_now_ns();
    const double cpu_before_s = cpu_s();
    long rss_settled_kib = 0, rss_peak_kib = 0;
    int fds_running = 0, threads_running = 0;
    for (int64_t now; (now = clock_now_ns()) - start_ns < length_ns;) {
        struct pollfd p = {.fd = event_fd, .events = POLLIN};
        uint64_t pokes;
        if (poll(&p, 1, 100) == 1)
            assert_int_equal(read(event_fd, &pokes, sizeof pokes), sizeof pokes);
        for (int i = 0; i < n; i++)
            take_frame(&clips[i], clock_now_ns());
        const long rss_kib = rig_rss_kib();
        if (now - start_ns >= SETTLE_NS && rss_settled_kib == 0) {
            rss_settled_kib = rss_kib;
            fds_running = rig_count_fds();
            threads_running = rig_count_threads();
        }
        rss_peak_kib = rss_kib > rss_peak_kib ? rss_kib : rss_peak_kib;
    }
    const double took_s = (double)(clock_now_ns() - start_ns) / 1e9, used_s = cpu_s() - cpu_before_s;
    const long rss_end_kib = rig_rss_kib();
    print_message(
        "%d clips for %.1f s: RSS %ld KiB after %.0f s, %ld at the end, %ld at most; %.1f s of CPU (%.0f %% of one core)\n", n,
        took_s, rss_settled_kib, (double)SETTLE_NS / 1e9, rss_end_kib, rss_peak_kib, used_s, 100 * used_s / took_s);
    for (int i = 0; i < n; i++) {
        struct pl_camera_stats s;
        pl_camera_get_stats(clips[i].camera, &s);
        print_message("  %-32s %dx%d %s: %llu published, %llu taken, %llu replaced, %.2f per second, oldest %.2f s\n",
                      clips[i].name, s.width_px, s.height_px, s.decoder, (unsigned long long)s.frames,
                      (unsigned long long)clips[i].taken, (unsigned long long)s.replaced, s.fps,
                      (double)clips[i].worst_age_ns / 1e9);
        if (s.state != PL_CAMERA_RUNNING || s.restarts || s.leaked || s.decode_errors || s.last_error[0])
            fail_msg("%s: %s, %llu restarts, %u leaked, %llu decode errors, \"%s\"", clips[i].name,
                     pl_camera_state_name(s.state), (unsigned long long)s.restarts, s.leaked,
                     (unsigned long long)s.decode_errors, s.last_error);
        assert_true(s.is_online && s.starved == 0);
        /* every frame is either taken, replaced, or the one that waits */
        assert_true(s.frames >= clips[i].taken + s.replaced && s.frames <= clips[i].taken + s.replaced + 1);
        assert_true((double)s.frames > took_s); /* the slowest clip has 10 per second; a loaded machine drops pictures */
        assert_true(clips[i].worst_age_ns < STALL_NS);
    }
    /* nothing grows while it runs, clips that begin again included */
    assert_true(rss_end_kib - rss_settled_kib < RSS_MARGIN_KB);
    assert_true(rig_count_fds() <= fds_running && rig_count_threads() <= threads_running + 1);
    for (int i = 0; i < n; i++)
        pl_camera_close(clips[i].camera);
    close(event_fd);
    assert_int_equal(pl_leaked_pipelines(), leaked_before);
    rig_wait_counts(fds_before, threads_before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_clips_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
