/*
 * A camera on a peer that dies again and again, and one that hangs: what each restart costs the process must be nothing.
 *
 * $HERON_RESTART_CYCLES (6) says how often; for a night's run.
 */
#include "tests/support/camera_rig.h"
#include "tests/support/rtsp_peer.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define WARM_CYCLES 3 /* plugins are loaded, pools have their size */
#define COUNT_SLACK                                                                                                            \
    4 /* GLib's pool keeps idle threads for a while; each cycle has some three restarts, each leak would count */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RSS_MARGIN_KB (256 * 1024) /* freed memory is kept back; the leak checker looks closer than this test can */
#else
#define RSS_MARGIN_KB 2048 /* malloc's arenas settle slowly; plus what each cycle may cost */
#endif
#define RSS_CYCLE_KB 16 /* one leaked 320x240 frame would be 225 */

static int n_cycles(void)
{
    const char *given = getenv("HERON_RESTART_CYCLES");
    const long n = given ? strtol(given, NULL, 10) : 6;
    assert_true(n > WARM_CYCLES && n < 1000000);
    return (int)n;
}

/* Wait until the camera publishes again. */
static void await_frames(struct pl_camera *cam)
{
    for (int i = 0; i < 3; i++)
        pl_frame_unref(rig_take(cam));
}

static bool is_down(const struct pl_camera_stats *s, const void *ctx)
{
    return s->state != PL_CAMERA_RUNNING;
}

/* One life of the peer: it is there, pictures come, it dies (or hangs and then dies); the camera notices. */
static void cycle(struct pl_camera *cam, int port, bool is_hung)
{
    pid_t peer = rtsp_peer_start(port, NULL);
    await_frames(cam);
    if (is_hung) {
        kill(peer, SIGSTOP);
        rig_wait(cam, true, is_down, NULL, "noticed that the peer hangs");
    }
    rtsp_peer_kill(peer);
    rig_wait(cam, true, is_down, NULL, "noticed that the peer is gone");
}

/* What the first network camera of a process leaves for ever (GIO's descriptors) is no leak: have one, and be rid of it. */
static void warm_up(void)
{
    int port;
    char source[64];
    pid_t peer = rtsp_peer_start(0, &port);
    snprintf(source, sizeof source, "rtsp://127.0.0.1:%d/mjpeg", port);
    struct pl_camera *cam = rig_open_source(source);
    await_frames(cam);
    pl_camera_close(cam);
    rtsp_peer_kill(peer);
}

static void run_cycles(bool is_hung)
{
    warm_up();
    const int n = n_cycles();
    const int fds_before = rig_count_fds(), threads_before = rig_count_threads();
    const uint32_t leaked_before = pl_leaked_pipelines();
    const int port = rtsp_peer_free_port();
    char source[64];
    snprintf(source, sizeof source, "rtsp://127.0.0.1:%d/mjpeg", port);
    struct pl_camera *cam = rig_open_source(source);
    int fds_warm = 0, threads_warm = 0, fds = 0, threads = 0;
    long rss_warm_kib = 0;
    for (int i = 0; i < n; i++) {
        if (i == WARM_CYCLES)
            rss_warm_kib = rig_rss_kib();
        cycle(cam, port, is_hung);
        /* between two pipelines there are none: the smallest count is that of an idle camera, however the attempts fall */
        fds = threads = 1 << 20;
        for (int k = 0; k < 100; k++, usleep(5000)) {
            fds = rig_count_fds() < fds ? rig_count_fds() : fds;
            threads = rig_count_threads() < threads ? rig_count_threads() : threads;
        }
        if (i + 1 == WARM_CYCLES) {
            fds_warm = fds;
            threads_warm = threads;
        }
    }
    const long grown_kib = rig_rss_kib() - rss_warm_kib;
    struct pl_camera_stats s;
    pl_camera_get_stats(cam, &s);
    print_message("%d lives of a peer, %llu restarts: %d descriptors (%d), %d threads (%d), RSS %+ld KiB to %ld\n", n,
                  (unsigned long long)s.restarts, fds, fds_warm, threads, threads_warm, grown_kib, rig_rss_kib());
    assert_true(s.restarts >= (uint64_t)n - 1);
    assert_true(s.leaked == 0 && pl_leaked_pipelines() == leaked_before);
    assert_true(fds <= fds_warm + COUNT_SLACK && threads <= threads_warm + COUNT_SLACK);
    assert_true(grown_kib < RSS_MARGIN_KB + (long)(n - WARM_CYCLES) * RSS_CYCLE_KB);
    pl_camera_close(cam);
    rig_wait_counts(fds_before, threads_before);
}

static void peer_that_dies(void **state)
{
    run_cycles(false);
}

/* Its kernel answers, it does not: a pipeline that waits for such an answer must stop all the same. */
static void peer_that_hangs(void **state)
{
    run_cycles(true);
}

/* Closing while the peer hangs: bounded by teardown_ns, and in fact at once; nothing is left behind. */
static void close_while_the_peer_hangs(void **state)
{
    int port;
    char source[64];
    warm_up();
    const int fds_before = rig_count_fds(), threads_before = rig_count_threads();
    pid_t peer = rtsp_peer_start(0, &port);
    const uint32_t leaked_before = pl_leaked_pipelines();
    snprintf(source, sizeof source, "rtsp://127.0.0.1:%d/mjpeg", port);
    struct pl_camera *cam = rig_open_source(source);
    await_frames(cam);
    kill(peer, SIGSTOP);
    pl_camera_close(cam); /* in the middle of the stream */
    assert_int_equal(pl_leaked_pipelines(), leaked_before);
    cam = rig_open_source(source); /* in the middle of the first request */
    usleep(300000);
    pl_camera_close(cam);
    assert_int_equal(pl_leaked_pipelines(), leaked_before);
    rtsp_peer_kill(peer);
    rig_wait_counts(fds_before, threads_before);
}

/* Opened and closed in a row, every other time in the middle of its start. */
static void file_opened_anew(void **state)
{
    char source[80], path[64];
    rig_make_h264(64, 48, 15, path, sizeof path);
    rig_warm_up();
    const int fds_before = rig_count_fds(), threads_before = rig_count_threads();
    snprintf(source, sizeof source, "file:%s?pace=fast", path);
    for (int i = 0; i < 30; i++) {
        struct pl_camera *cam = rig_open_source(source);
        if (i % 2)
            pl_frame_unref(rig_take(cam));
        pl_camera_close(cam);
    }
    rig_wait_counts(fds_before, threads_before);
    unlink(path);
}

int main(int argc, char **argv)
{
    rtsp_peer_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peer_that_dies),
        cmocka_unit_test(peer_that_hangs),
        cmocka_unit_test(close_while_the_peer_hangs),
        cmocka_unit_test(file_opened_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
