/* What a camera says about what is wrong with its source: place and cause, in one line, in its stats; and nothing secret. */
#include "tests/support/camera_rig.h"
#include "tests/support/rtsp_peer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_told(const struct pl_camera_stats *s, const void *ctx)
{
    return s->last_error[0] && s->state != PL_CAMERA_STARTING;
}

/* The first error that a camera on `source` shows must name the place and the cause; no frame, not online, no second line. */
static void tells(const char *source, enum pl_camera_state state, const char *place, const char *cause)
{
    struct pl_camera *cam = rig_open_source(source);
    struct pl_camera_stats s = rig_wait(cam, true, is_told, NULL, "told what is wrong");
    pl_camera_close(cam);
    if (!test_contains(s.last_error, place) || !test_contains(s.last_error, cause))
        fail_msg("%s: \"%s\", expected \"%s\" and \"%s\"", source, s.last_error, place, cause);
    assert_true(s.frames == 0 && !s.is_online);
    assert_int_equal(s.state, state);
    assert_null(strpbrk(s.last_error, "\r\n"));
    assert_false(test_contains(s.last_error, "sesame"));
}

static void tells_of_file(const char *path, const char *cause)
{
    char source[640];
    snprintf(source, sizeof source, "file:%.600s", path);
    tells(source, PL_CAMERA_RESTARTING, path, cause);
}

static const char *write_file(const char *name, const void *bytes, size_t n)
{
    static char path[600];
    static const char *folder;
    folder = folder ? folder : test_temp_dir();
    snprintf(path, sizeof path, "%s/%s", folder, name);
    test_write_file(path, bytes, n);
    return path;
}

static void files(void **state)
{
    char path[600], noise[5000];
    tells("file:/nonexistent/clip.mp4", PL_CAMERA_RESTARTING, "/nonexistent/clip.mp4", "No such file");
    tells("file:/tmp", PL_CAMERA_RESTARTING, "/tmp", "directory");
    tells_of_file(write_file("empty.mp4", "", 0), "empty");
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)(i * 2654435761u >> 13);
    tells_of_file(write_file("noise.mp4", noise, sizeof noise), "ould not determine type");
    tells_of_file(write_file("text.mp4", "a list of things to do, and no video at all\n", 44), "t");
    if (geteuid() != 0) {
        snprintf(path, sizeof path, "%s", write_file("closed.mp4", "x", 1));
        assert_int_equal(chmod(path, 0), 0);
        tells_of_file(path, "Permission denied");
    }
}

/* The usual ways to spoil a good clip: its end is missing (and with it, in MP4, the index), its beginning is missing. */
static void spoilt_files(void **state)
{
    char clip[64];
    size_t n;
    rig_make_h264(320, 240, 30, clip, sizeof clip);
    char *bytes = test_read_file(clip, &n);
    unlink(clip);
    assert_true(n > 1000);
    for (int i = 0; i < 10; i++) /* parsebin swallows the error now and then */
        tells_of_file(write_file("cut.mp4", bytes, n / 2), "damaged or cut short");
    tells_of_file(write_file("stub.mp4", bytes, 40), "damaged or cut short");
    tells_of_file(write_file("tail.mp4", bytes + n / 2, n / 2), "o");
    free(bytes);
}

static void unknown_codecs(void **state)
{
    char path[64];
    rig_make_clip("videotestsrc num-buffers=10 ! vp8enc deadline=1 ! webmmux", ".webm", path, sizeof path);
    tells_of_file(path, "no video that Heron can decode (found: video/x-vp8)");
    unlink(path);
    rig_make_clip("videotestsrc num-buffers=1 ! pngenc", ".png", path, sizeof path);
    tells_of_file(path, "no video that Heron can decode (found: image/png)");
    unlink(path);
    rig_make_clip("videotestsrc num-buffers=20 ! openh264enc ! h264parse ! video/x-h264,stream-format=byte-stream", ".h264",
                  path, sizeof path);
    char source[80];
    snprintf(source, sizeof source, "file:%s", path);
    struct pl_camera *cam = rig_open_source(source);
    rig_wait(cam, true, rig_has_error, "no time stamps", "told so"); /* not played at whatever speed the machine has */
    pl_camera_close(cam);
    unlink(path);
}

/* What the door promises to play, it plays: each container with a codec that is usual in it. */
static void good_containers(void **state)
{
    static const char *const clips[][2] = {
        {"openh264enc gop-size=15 ! h264parse ! mp4mux", ".mp4"},
        {"openh264enc gop-size=15 ! h264parse ! matroskamux", ".mkv"},
        {"openh264enc gop-size=15 ! h264parse ! mpegtsmux", ".ts"},
        {"openh264enc gop-size=15 ! h264parse ! video/x-h264,stream-format=byte-stream ! avimux", ".avi"},
        {"jpegenc ! avimux", ".avi"},
        {"jpegenc ! matroskamux", ".mkv"},
    };
    for (size_t i = 0; i < sizeof clips / sizeof clips[0]; i++) {
        char path[64], description[512], source[80];
        snprintf(description, sizeof description,
                 "videotestsrc pattern=ball num-buffers=15 ! video/x-raw,format=I420,width=160,height=120,framerate=15/1 ! %s",
                 clips[i][0]);
        rig_make_clip(description, clips[i][1], path, sizeof path);
        snprintf(source, sizeof source, "file:%s", path);
        struct pl_camera *cam = rig_open_source(source);
        uint64_t n = 20; /* more than one round */
        struct pl_camera_stats s = rig_wait(cam, true, rig_has_frames, &n, description);
        if (s.last_error[0])
            fail_msg("%s: \"%s\"", description, s.last_error);
        assert_true(s.fps < 25); /* at its own pace, not the machine's */
        pl_camera_close(cam);
        unlink(path);
    }
}

/* One picture over and over costs little: the clip begins again twice a second at most. */
static void short_clips_do_not_spin(void **state)
{
    char path[64], source[80];
    rig_make_clip("videotestsrc num-buffers=1 ! video/x-raw,framerate=30/1 ! jpegenc ! matroskamux", ".mkv", path, sizeof path);
    snprintf(source, sizeof source, "file:%s", path);
    struct pl_camera *cam = rig_open_source(source);
    pl_frame_unref(rig_take(cam));
    const int64_t start_ns = clock_now_ns();
    uint64_t n = 5;
    rig_wait(cam, true, rig_has_frames, &n, "5 rounds");
    assert_true(clock_now_ns() - start_ns > 1500 * CLOCK_MS);
    pl_camera_close(cam);
    unlink(path);
}

static void network_cameras(void **state)
{
    char source[128], place[64];
    snprintf(place, sizeof place, "rtsp: 127.0.0.1:%d", rtsp_peer_port);
    snprintf(source, sizeof source, "rtsp://u:sesame@127.0.0.1:%d/nosuchpath?token=sesame", rtsp_peer_port);
    tells(source, PL_CAMERA_RESTARTING, place, "ot found");
    snprintf(source, sizeof source, "rtsp://heron:sesame@127.0.0.1:%d/locked", rtsp_peer_port);
    tells(source, PL_CAMERA_AUTH_FAILED, place, "nauthorized");
    snprintf(source, sizeof source, "rtsp://127.0.0.1:%d/vp8", rtsp_peer_port);
    tells(source, PL_CAMERA_RESTARTING, place, "no video that Heron can decode (found: VP8)");
    snprintf(source, sizeof source, "rtsp://127.0.0.1:%d/sound", rtsp_peer_port);
    tells(source, PL_CAMERA_RESTARTING, place, "no video that Heron can decode (found: audio)");
    int closed = rtsp_peer_free_port();
    snprintf(place, sizeof place, "rtsp: 127.0.0.1:%d", closed);
    snprintf(source, sizeof source, "rtsp://u:sesame@127.0.0.1:%d/cam", closed);
    tells(source, PL_CAMERA_RESTARTING, place, "cannot connect: Could not connect to 127.0.0.1: Connection refused");
    tells("rtsp://u:sesame@no-such-host.invalid/cam", PL_CAMERA_RESTARTING,
          "rtsp: no-such-host.invalid:554: cannot connect: ", "resolv");
}

/* ---- servers that are none -------------------------------------------------------------------------------------------------- */

struct impostor {
    int fd, port;
    const char *answer; /* NULL: closes at once */
    pthread_t thread;
};

static void *impostor_run(void *arg)
{
    struct impostor *im = arg;
    for (int fd; (fd = accept(im->fd, NULL, NULL)) >= 0; close(fd)) {
        char request[2048];
        if (im->answer && recv(fd, request, sizeof request, 0) > 0)
            send(fd, im->answer, strlen(im->answer), MSG_NOSIGNAL);
    }
    return NULL;
}

static void impostor_start(struct impostor *im, const char *answer)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    *im = (struct impostor){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .answer = answer};
    assert_true(im->fd >= 0);
    assert_int_equal(bind(im->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(im->fd, 8), 0);
    assert_int_equal(getsockname(im->fd, (struct sockaddr *)&a, &n), 0);
    im->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&im->thread, NULL, impostor_run, im), 0);
}

static void impostor_stop(struct impostor *im)
{
    shutdown(im->fd, SHUT_RDWR); /* wakes accept */
    pthread_join(im->thread, NULL);
    close(im->fd);
}

static void servers_that_speak_something_else(void **state)
{
    static const char *const answers[] = {
        NULL,
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "RTSP/1.0 500 Internal Server Error\r\nCSeq: 1\r\n\r\n",
        "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 4294967295\r\n\r\nshort",
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct impostor im;
        char source[80], place[64];
        impostor_start(&im, answers[i]);
        snprintf(place, sizeof place, "rtsp: 127.0.0.1:%d: ", im.port);
        snprintf(source, sizeof source, "rtsp://u:sesame@127.0.0.1:%d/cam", im.port);
        tells(source, PL_CAMERA_RESTARTING, place, "o");
        impostor_stop(&im);
    }
}

static void devices(void **state)
{
    tells("v4l2:/dev/no-such-video", PL_CAMERA_RESTARTING, "v4l2: /dev/no-such-video", "No such file");
    tells("v4l2:/dev/null", PL_CAMERA_RESTARTING, "v4l2: /dev/null", "not a video capture device");
}

int main(int argc, char **argv)
{
    rtsp_peer_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files),
        cmocka_unit_test(spoilt_files),
        cmocka_unit_test(unknown_codecs),
        cmocka_unit_test(good_containers),
        cmocka_unit_test(short_clips_do_not_spin),
        cmocka_unit_test_setup_teardown(network_cameras, rtsp_peer_set_up, rtsp_peer_tear_down),
        cmocka_unit_test(servers_that_speak_something_else),
        cmocka_unit_test(devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
